"""Contact sheet: the hits of several searches as one PNG, with a row for each search."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla.stills import Still, load_font, shorten_text, wrap_text

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageDraw import ImageDraw

_MARGIN, _GAP, _COLUMN_GAP, _ROW_GAP, _BORDER, _BETWEEN = 28, 14, 44, 26, 4, 2
_TITLE, _TEXT, _SMALL = 30, 20, 15
_PAPER, _INK, _GREY, _LINE = (255, 255, 255), (28, 30, 34), (96, 101, 110), (214, 217, 222)
_RIGHT, _WRONG = (0, 128, 92), (200, 62, 0)
"""Bluish green and vermilion, which people with colour blindness can tell apart."""


@dataclass(frozen=True)
class SheetHit:
    """A hit on a sheet.

    Attributes:
        stills: frames of the moment, in order of time.
        caption: line below them, such as `clip.mp4  0:02.0 - 0:04.5`.
        is_right: whether the hit is right, shown as a frame and a sign; None if unknown.
    """

    stills: tuple[Still, ...]
    caption: str
    is_right: bool | None = None


@dataclass(frozen=True)
class SheetRow:
    """A search on a sheet.

    Attributes:
        query: the text of the search, above the row.
        note: remark beside it.
        columns: for each column of the sheet its hits, best first.
    """

    query: str
    note: str
    columns: tuple[tuple[SheetHit, ...], ...]


def contact_sheet(
    title: str,
    explanation: str,
    headings: Sequence[str],
    rows: Sequence[SheetRow],
    still_size: tuple[int, int] = (128, 128),
) -> bytes:
    """Return a PNG file with a row for each search and a column for each method.

    Args:
        title: first line.
        explanation: text below it.
        headings: of the columns; empty texts for none.
        rows: the searches.
        still_size: width and height in pixels that stills are fitted into.
    """
    from PIL import Image, ImageDraw

    sheet = _Layout(rows, len(headings), still_size)
    lines = wrap_text(explanation, load_font(_SMALL), sheet.width - 2 * _MARGIN)
    top = _MARGIN + _TITLE + 12 + len(lines) * (_SMALL + 6) + 14
    head = _TEXT + 14 if any(headings) else 0
    image = Image.new(
        "RGB", (sheet.width, top + head + len(rows) * sheet.row_height + _MARGIN), _PAPER
    )
    draw = ImageDraw.Draw(image)
    room = sheet.width - 2 * _MARGIN
    draw.text(
        (_MARGIN, _MARGIN), shorten_text(title, load_font(_TITLE), room), _INK, load_font(_TITLE)
    )
    for number, line in enumerate(lines):
        y = _MARGIN + _TITLE + 12 + number * (_SMALL + 6)
        draw.text((_MARGIN, y), line, _GREY, load_font(_SMALL))
    for number, heading in enumerate(headings):
        draw.text((sheet.column_x(number), top), heading, _INK, load_font(_TEXT))
    for number, row in enumerate(rows):
        _draw_row(image, draw, sheet, row, top + head + number * sheet.row_height)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Layout:
    """Positions on a sheet, in pixels."""

    def __init__(
        self, rows: Sequence[SheetRow], num_columns: int, still_size: tuple[int, int]
    ) -> None:
        hits = [hit for row in rows for column in row.columns for hit in column]
        self.still_width, self.still_height = still_size
        num_stills = max((len(hit.stills) for hit in hits), default=1)
        num_hits = max((len(column) for row in rows for column in row.columns), default=1)
        stills_width = num_stills * (self.still_width + _BETWEEN) - _BETWEEN
        self.hit_width = stills_width + 2 * _BORDER
        self._column_width = num_hits * (self.hit_width + _GAP) - _GAP
        columns = num_columns * (self._column_width + _COLUMN_GAP) - _COLUMN_GAP
        self.width = 2 * _MARGIN + max(columns, 640)
        self.hit_height = self.still_height + 2 * _BORDER + 6 + _SMALL + 4
        self.row_height = _TEXT + 14 + self.hit_height + _ROW_GAP

    def column_x(self, number: int) -> int:
        """Return the left edge of a column of hits."""
        return _MARGIN + number * (self._column_width + _COLUMN_GAP)


def _draw_row(image: Image.Image, draw: ImageDraw, sheet: _Layout, row: SheetRow, top: int) -> None:
    """Draw the query, and below it the hits of each column."""
    font, small = load_font(_TEXT), load_font(_SMALL)
    draw.line((_MARGIN, top, sheet.width - _MARGIN, top), _LINE)
    room = sheet.width - 2 * _MARGIN - small.getlength(row.note) - _GAP
    query = shorten_text(row.query, font, room)
    draw.text((_MARGIN, top + 6), query, _INK, font)
    draw.text((_MARGIN + font.getlength(query) + _GAP, top + 10), row.note, _GREY, small)
    for number, column in enumerate(row.columns):
        left = sheet.column_x(number)
        if not column:
            draw.text((left, top + _TEXT + 22), "nothing was found", _GREY, small)
        for hit in column:
            _draw_hit(image, draw, sheet, hit, (left, top + _TEXT + 14))
            left += sheet.hit_width + _GAP


def _draw_hit(
    image: Image.Image, draw: ImageDraw, sheet: _Layout, hit: SheetHit, corner: tuple[int, int]
) -> None:
    """Draw the stills of a hit in a frame, and its caption with a sign."""
    from PIL import Image

    left, top = corner
    height = sheet.still_height + 2 * _BORDER
    color = _GREY if hit.is_right is None else _RIGHT if hit.is_right else _WRONG
    draw.rectangle((left, top, left + sheet.hit_width - 1, top + height - 1), color)
    for number, still in enumerate(hit.stills):
        with Image.open(io.BytesIO(still.jpeg), formats=["JPEG"]) as file:
            picture = _fit(file, sheet.still_width, sheet.still_height)
        x = left + _BORDER + number * (sheet.still_width + _BETWEEN)
        image.paste(picture, (x, top + _BORDER))
    y, font = top + height + 5, load_font(_SMALL)
    x = left
    if hit.is_right is not None:
        _draw_sign(draw, hit.is_right, (left, y + 1))
        x += _SMALL + 6
    draw.text((x, y), shorten_text(hit.caption, font, left + sheet.hit_width - x), _INK, font)


def _fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return `picture` as large as fits into `width` by `height`, on a dark ground."""
    from PIL import Image

    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    ground = Image.new("RGB", (width, height), _INK)
    ground.paste(
        picture.convert("RGB").resize(size, Image.Resampling.LANCZOS),
        ((width - size[0]) // 2, (height - size[1]) // 2),
    )
    return ground


def _draw_sign(draw: ImageDraw, is_right: bool, corner: tuple[int, int]) -> None:
    """Draw a white tick or cross on a disc: colour alone does not reach everybody."""
    x, y = corner
    size = _SMALL
    draw.ellipse((x, y, x + size, y + size), _RIGHT if is_right else _WRONG)
    if is_right:
        points = [(0.25, 0.52), (0.44, 0.72), (0.78, 0.3)]
        draw.line([(x + a * size, y + b * size) for a, b in points], _PAPER, 2, "curve")
        return
    low, high = 0.3 * size, 0.7 * size
    draw.line((x + low, y + low, x + high, y + high), _PAPER, 2)
    draw.line((x + low, y + high, x + high, y + low), _PAPER, 2)
