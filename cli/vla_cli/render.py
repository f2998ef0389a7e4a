"""How things look: tables and JSON on stdout; progress, notes and errors on stderr. Nothing else prints."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from vla.progress import Progress, ProgressCallback

# A file name may hold escape sequences, newlines and marks that turn text around; none of them reaches the terminal.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LABELS = {
    "extract": "extracting", "captions": "captions", "train": "training", "index": "indexing", "render": "rendering",
    "verify": "verifying", "look": "looking", "import": "importing", "export": "exporting",
    "measure": "measuring",
}  # fmt: skip


def shown(text: object) -> str:
    """`text` with control characters, lone surrogates and direction marks written out."""
    return _UNSAFE.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", str(text))


def out() -> Console:
    """Where results go."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """Where everything else goes."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(message: str, style: str = "") -> None:
    """A line for the person, on stderr."""
    err().print(Text("\n".join(shown(line) for line in message.split("\n")), style=style))


def print_json(value: Any) -> None:
    """`value` as JSON on stdout; names with odd bytes survive as escapes."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "", numeric: Sequence[str] = ()
) -> None:
    """A table on stdout; plain text, no styles, when stdout is not a terminal."""
    console = out()
    if not console.is_terminal:
        console.width = 160
    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(shown(cell)) for cell in row])
    console.print(table)


def size(count: int) -> str:
    """Bytes as people say them."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def plural(count: int, noun: str) -> str:
    """`1 video`, `1,200 videos`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def clock(seconds: float) -> str:
    """`H:MM:SS.s`, without hours where there are none."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def _figures(values: Mapping[str, float]) -> str:
    """Named figures in one line; what remains to be done as a clock."""
    said = (f"ETA {clock(v)}" if k == "eta" else f"{shown(k)} {v:.4g}" for k, v in values.items())
    return "  ".join(said)


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[ProgressCallback]:
    """A callback that draws bars on a terminal, or prints a line for each epoch elsewhere; warnings and notes anywhere; nothing
    at all when quiet.
    """
    console = err()
    columns = (TextColumn("{task.description:<11}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[values]}", markup=False))  # fmt: skip
    bars = Bars(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def show(p: Progress) -> None:
        if p.total:
            if p.stage not in tasks:
                tasks[p.stage] = bars.add_task(_LABELS.get(p.stage, p.stage), total=p.total, values="")
            values = _figures(p.values)
            if p.stage == "train" and p.values and not p.part and not (quiet or console.is_terminal):
                console.print(Text(f"epoch {p.done}/{p.total}  {values}"))
            bars.update(tasks[p.stage], completed=p.done + p.part, total=p.total, values=values)
        if p.message and not quiet and p.level in ("warning", "note"):
            style = "yellow" if p.level == "warning" else ""
            bars.console.print(Text(shown(p.message), style=style))

    with bars:
        yield show
