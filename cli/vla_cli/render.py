"""Tables and JSON on stdout; notes, progress and errors on stderr."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from vla_cli.formatting import escape as escape
from vla_cli.formatting import format_bytes as format_bytes
from vla_cli.formatting import format_duration as format_duration
from vla_cli.formatting import format_time as format_time
from vla_cli.formatting import plural as plural
from vla_cli.formatting import print_error as print_error
from vla_cli.formatting import print_line as print_line
from vla_cli.formatting import print_message as print_message
from vla_cli.formatting import print_omissions as print_omissions
from vla_cli.formatting import stderr_console as stderr_console
from vla_cli.formatting import stdout_console as stdout_console
from vla_cli.formatting import wrap as wrap
from vla_cli.hints import inline_hints
from vla_cli.progress import progress_bars as progress_bars

_MIN_TEXT_WIDTH = 30
"""Width that a text column keeps if a table is too wide; names are shortened first."""
_MIN_NAME_WIDTH = 16
_GAP = 3
_REMARK = re.compile(r"(?: \((?:missing|\+[\d,]+ duplicates?)\))+$")


def print_json(value: Any) -> None:
    """Print `value` as ASCII JSON on stdout, so that odd names survive in every encoding."""
    text = json.dumps(inline_hints(value), indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text + "\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    title: str = "",
    numeric: Sequence[str] = (),
    names: Sequence[str] = ("video",),
) -> None:
    """Print a table on stdout; without a terminal, print plain columns that are never shortened.

    Args:
        columns: the headings.
        rows: one value for each column.
        title: line above the table.
        numeric: columns that are right-aligned and never shortened.
        names: columns of paths and names; their middle is removed if the table is too wide.
    """
    console = stdout_console()
    cells = [[escape(cell) for cell in row] for row in rows]
    heads = [escape(column) for column in columns]
    is_right = [column in numeric for column in columns]
    if not console.is_terminal:
        _print_plain(heads, cells, title, is_right)
        return
    min_widths = [
        _min_width(head, column, right)
        for head, right, *column in zip(heads, is_right, *cells, strict=True)
    ]  # fmt: skip
    name_columns = [i for i, column in enumerate(columns) if column in names]
    others = sum(width for i, width in enumerate(min_widths) if i not in name_columns)
    room = (console.width - others - _GAP * len(columns)) // max(len(name_columns), 1)
    min_total = others + len(name_columns) * _MIN_NAME_WIDTH + _GAP * (len(columns) - 1)
    if min_total > console.width:
        # Rows that the terminal wraps are better than truncated numbers.
        _print_plain(heads, cells, title, is_right, console.width)
        return
    cells = [
        [shorten_middle(cell, room) if i in name_columns else cell for i, cell in enumerate(row)]
        for row in cells
    ]  # fmt: skip
    table = Table(
        title=Text(escape(title)) if title else None,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
    )
    table.show_edge, table.pad_edge = False, False
    for i, (head, right, width) in enumerate(zip(heads, is_right, min_widths, strict=True)):
        # Without a minimum width, rich takes room from every column.
        name_width = max((cell_len(row[i]) for row in cells), default=0)
        table.add_column(
            Text(head), justify="right" if right else "left", overflow="fold", no_wrap=i in name_columns,
            min_width=name_width if i in name_columns else width if right else None,
        )  # fmt: skip
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _min_width(head: str, cells: list[str], is_numeric: bool) -> int:
    """Return the width that a column needs: whole numbers and words of its heading, some text."""
    width = max(map(cell_len, cells), default=0)
    head_width = max(map(cell_len, head.split()), default=0)
    return max(head_width, width if is_numeric else min(width, _MIN_TEXT_WIDTH))


def shorten_middle(name: str, width: int) -> str:
    """Return `name` in at most `width` columns, without its middle: the end tells files apart."""
    if cell_len(name) <= width:
        return name
    if remark := _REMARK.search(name):
        # The name counts, and a remark only as far as it fits.
        ending = remark[0].replace(" duplicates", "").replace(" duplicate", "")
        return shorten_middle(name[: remark.start()], max(width - cell_len(ending), 1)) + ending
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
    heads: list[str],
    rows: list[list[str]],
    title: str,
    is_right: list[bool],
    screen: int | None = None,
) -> None:
    """Print plain columns; a last text that does not fit into `screen` columns goes below its row."""
    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [escape(title)] if title else []
    for row in (heads, *rows):
        cells = [
            " " * (width - cell_len(cell)) + cell
            if right
            else cell + " " * (width - cell_len(cell))
            for cell, width, right in zip(row, widths, is_right, strict=True)
        ]
        text = "  ".join(cells).rstrip()
        if screen is not None and cell_len(text) > screen and not is_right[-1] and row is not heads:
            indent = " " * 4
            text = "  ".join(cells[:-1]).rstrip()
            text += "\n" + textwrap.fill(
                row[-1],
                screen,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
            )
        lines.append(text)
    sys.stdout.write("\n".join(lines) + "\n")
