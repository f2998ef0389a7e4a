"""Progress of long stages on stderr: a bar on a terminal, a line from time to time in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import Progress as Bars
from rich.progress import ProgressColumn, Task, TaskID
from rich.text import Text

from vla.progress import Progress, ProgressCallback
from vla_cli import garbage_collection
from vla_cli.formatting import escape, format_time, stderr_console, write_message

_LABELS = {
    "extract": "extracting", "captions": "captions", "train": "training", "index": "indexing", "render": "rendering",
    "verify": "verifying", "look": "scanning", "import": "importing", "export": "exporting", "measure": "measuring",
    "search": "searching", "evaluate": "evaluating", "fetch": "MB fetched", "check": "MB checked", "pack": "MB packed",
    "unpack": "MB written",
}  # fmt: skip
_LABEL_WIDTH = 10
_ETA_WIDTH = 8
_FIRST_LINE_SECONDS, _LINE_SECONDS, _LINE_SHARE = 5.0, 30.0, 0.1
"""A log gets a line each `_LINE_SECONDS`, or after `_LINE_SHARE` of the work if at least
`_FIRST_LINE_SECONDS` have passed."""


def bar_line(
    label: str,
    done: float,
    total: int,
    eta: float | None,
    values: Mapping[str, float],
    width: int,
    full: str = "━",
) -> str:
    """Return one line of at most `width - 1` columns.

    The line has the label, the bar, the count, the time left, and as many whole values as fit.
    Every part but the values has the same position in each line of a stage.
    """
    digits = len(f"{total:,}")
    count = f"{int(done):>{digits},}/{total:,}"
    eta_text = "" if eta is None else f"ETA {format_time(eta).rpartition('.')[0]}"
    length = 10 if width < 70 else 20 if width < 100 else 30
    share = min(max(done / total, 0.0), 1.0) if total else 0.0
    bar = (full * round(share * length)).ljust(length, "─" if full == "━" else "-")
    line = f"{label:<{_LABEL_WIDTH}} {bar} {count} {eta_text:<{_ETA_WIDTH + 4}}"
    for name, value in values.items():
        if name == "eta":
            continue
        item = f" {escape(name)} {value:<6.4g}"
        if len(line) + len(item.rstrip()) > width - 1:
            break
        line += item
    return line.rstrip()[: max(width - 1, 0)]


class _BarColumn(ProgressColumn):
    """The whole line as one column: separate columns would shift each other."""

    max_refresh = None

    def __init__(self, width: Callable[[], int], full: str) -> None:
        super().__init__()
        self._width, self._full = width, full

    def render(self, task: Task) -> Text:
        """Return the current line of `task`."""
        if task.total is None:
            return Text(f"{task.description} ...", style="dim", no_wrap=True, overflow="crop")
        values: Mapping[str, float] = task.fields.get("values") or {}
        eta = values.get("eta", task.time_remaining)
        line = bar_line(
            str(task.description),
            task.completed,
            int(task.total),
            eta,
            values,
            self._width(),
            self._full,
        )
        return Text(line, no_wrap=True, overflow="crop")


class _LogLines:
    """Progress for a log: a line for each tenth of a long stage, or every half minute."""

    def __init__(
        self, write: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._now = write, now
        self._last: dict[str, tuple[float, float]] = {}

    def __call__(self, p: Progress) -> None:
        """Write a line for `p` if one is due."""
        now, share = self._now(), (p.done + p.part) / p.total
        if p.stage == "train":
            if p.values and not p.part:
                self._write(f"epoch {p.done}/{p.total}  {_format_values(p.values)}")
            return
        last_time, last_share = self._last.setdefault(p.stage, (now, share))
        age = now - last_time
        is_due = age >= _FIRST_LINE_SECONDS and share >= last_share + _LINE_SHARE
        if age >= _LINE_SECONDS or is_due:
            self._last[p.stage] = (now, share)
            label = _LABELS.get(p.stage, p.stage)
            self._write(
                f"{label} {p.done:,}/{p.total:,} ({share:.0%})  {_format_values(p.values)}".rstrip()
            )


def _format_values(values: Mapping[str, float]) -> str:
    """Return named values as one line; `eta` is formatted as a time."""
    items = (
        f"ETA {format_time(v)}" if k == "eta" else f"{escape(k)} {v:.4g}" for k, v in values.items()
    )
    return "  ".join(items)


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[ProgressCallback]:
    """Yield a callback that shows progress, warnings and notes on stderr.

    On a terminal, each stage is one line that is redrawn; a log gets lines from time to time. A
    terminal shows activity at once, because importing the libraries takes seconds. With `quiet`,
    nothing is shown.
    """
    console = stderr_console()
    full = "━" if (console.encoding or "").lower().startswith("utf") else "#"
    is_live = console.is_terminal and not quiet
    bars = Bars(
        _BarColumn(lambda: console.width, full),
        console=console,
        transient=True,
        disable=not is_live,
    )
    loading = bars.add_task("loading libraries", total=None)
    tasks: dict[str, TaskID] = {}
    lines = _LogLines(lambda text: console.print(Text(text)))
    messages: set[str] = set()

    def show(p: Progress) -> None:
        garbage_collection.resume()  # work has begun: the libraries are imported
        if p.total:
            bars.update(loading, visible=False)
            if p.stage not in tasks:
                tasks[p.stage] = bars.add_task(_LABELS.get(p.stage, escape(p.stage)), total=p.total)
            bars.update(tasks[p.stage], completed=p.done + p.part, total=p.total, values=p.values)
            if not (quiet or is_live):
                lines(p)
        elif p.message and p.level == "info":
            bars.update(loading, description=escape(p.message), visible=True)
        if p.message and p.message not in messages and not quiet and p.level in ("warning", "note"):
            # Several stages of one command may emit the same warning.
            messages.add(p.message)
            style = "yellow" if p.level == "warning" else ""
            write_message(p.message, [p.message], bars.console, style)

    with bars:
        yield show
