"""How things look: tables and JSON on stdout; notes, progress and errors on stderr. Nothing else prints."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from vla_cli.bars import progress_bars as progress_bars
from vla_cli.hints import plain
from vla_cli.words import clock as clock
from vla_cli.words import err as err
from vla_cli.words import folded as folded
from vla_cli.words import line as line
from vla_cli.words import out as out
from vla_cli.words import plural as plural
from vla_cli.words import print_left_out as print_left_out
from vla_cli.words import say as say
from vla_cli.words import shown as shown
from vla_cli.words import size as size

_MOST_TEXT = 30
"""Columns that a text column keeps at least, where a table is too wide, before names are shortened further."""
_LEAST_NAME = 16
_GAP = 3


def print_json(value: Any) -> None:
    """`value` as JSON on stdout, in ASCII: names with odd bytes survive as escapes, in every encoding."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    title: str = "",
    numeric: Sequence[str] = (),
    names: Sequence[str] = ("video",),
) -> None:
    """A table on stdout. Elsewhere than on a terminal: plain text in columns, whole, and without lines.

    Args:
        columns: their heads.
        rows: a value for each.
        title: above it.
        numeric: columns that are aligned to the right and never cut.
        names: columns of paths and names: these are shortened in the middle where the table would be wider than the screen.
    """
    console = out()
    cells = [[shown(cell) for cell in row] for row in rows]
    heads = [shown(column) for column in columns]
    if not console.is_terminal:
        _print_plain(heads, cells, title, [column in numeric for column in columns])
        return
    least = [_least(head, column, name in numeric) for name, head, *column in zip(columns, heads, *cells, strict=True)]
    shortened = [i for i, column in enumerate(columns) if column in names]
    others = sum(width for i, width in enumerate(least) if i not in shortened)
    room = (console.width - others - _GAP * len(columns)) // max(len(shortened), 1)
    if others + len(shortened) * _LEAST_NAME + _GAP * (len(columns) - 1) > console.width:
        # Lines that the terminal breaks are better than figures that are cut.
        _print_plain(heads, cells, title, [column in numeric for column in columns], console.width)
        return
    kept = [[shorter(cell, room) if i in shortened else cell for i, cell in enumerate(row)] for row in cells]
    table = Table(
        title=Text(shown(title)) if title else None, title_justify="left", header_style="bold", box=SIMPLE_HEAD
    )
    table.show_edge, table.pad_edge = False, False
    for i, (column, head, width) in enumerate(zip(columns, heads, least, strict=True)):
        # What is whole stays whole: rich would take room from every column.
        whole = max((cell_len(row[i]) for row in kept), default=0) if i in shortened else width
        table.add_column(
            Text(head), justify="right" if column in numeric else "left", overflow="fold", no_wrap=i in shortened,
            min_width=whole if i in shortened or column in numeric else None,
        )  # fmt: skip
    for row in kept:
        table.add_row(*map(Text, row))
    console.print(table)


def _least(head: str, cells: list[str], is_numeric: bool) -> int:
    """Columns that a column of a table needs: whole figures, whole words of its head, and some of a text."""
    widths = [cell_len(cell) for cell in cells]
    words = max((cell_len(word) for word in head.split()), default=0)
    return max(words, *widths, 0) if is_numeric else max(words, min(max(widths, default=0), _MOST_TEXT))


def shorter(name: str, width: int) -> str:
    """`name` in at most `width` columns, its middle left out: the end of a path tells files apart."""
    if cell_len(name) <= width:
        return name
    head, tail = "", ""
    for character in reversed(name):
        if cell_len(tail) + cell_len(character) > (width - 1) * 3 // 4:
            break
        tail = character + tail
    for character in name:
        if cell_len(head) + cell_len(character) + cell_len(tail) > width - 1:
            break
        head += character
    return f"{head}…{tail}"


def _print_plain(
    heads: list[str], rows: list[list[str]], title: str, right: list[bool], screen: int | None = None
) -> None:
    """Columns of plain text; where `screen` columns are too few for a row, its last text stands below it, indented."""
    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [shown(title)] if title else []
    for row in (heads, *rows):
        padded = [
            " " * (width - cell_len(cell)) + cell if is_right else cell + " " * (width - cell_len(cell))
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        text = "  ".join(padded).rstrip()
        if screen is not None and cell_len(text) > screen and not right[-1] and row is not heads:
            text = "  ".join(padded[:-1]).rstrip()
            text += "\n" + textwrap.fill(
                row[-1], screen, initial_indent="    ", subsequent_indent="    ", break_long_words=False
            )
        lines.append(text)
    sys.stdout.write("\n".join(lines) + "\n")
