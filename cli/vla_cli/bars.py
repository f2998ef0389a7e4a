"""Progress of long work: one line a stage on a terminal, a line now and then elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import Progress as Bars
from rich.progress import ProgressColumn, Task, TaskID
from rich.text import Text

from vla.progress import Progress, ProgressCallback
from vla_cli.words import clock, err, print_message, shown

_LABELS = {
    "extract": "extracting", "captions": "captions", "train": "training", "index": "indexing", "render": "rendering",
    "verify": "verifying", "look": "looking", "import": "importing", "export": "exporting", "measure": "measuring",
    "search": "searching", "evaluate": "evaluating",
}  # fmt: skip
_LABEL_WIDTH = 10
_ETA_WIDTH = 8
_FIRST_LINE, _NEXT_LINE, _SHARE = 5.0, 30.0, 0.1
"""Seconds before the first line of a stage where there is no terminal, and between two; and the share of the work that makes
a line earlier, yet not before `_FIRST_LINE` seconds have passed."""


def bar_line(
    label: str, done: float, total: int, eta: float | None, values: Mapping[str, float], width: int, full: str = "━"
) -> str:
    """One line of at most `width - 1` columns: label, bar, count, time left, then as many whole figures as fit.

    Every part but the figures has the same place from line to line, whatever it says.
    """
    digits = len(f"{total:,}")
    count = f"{int(done):>{digits},}/{total:,}"
    left = "" if eta is None else f"ETA {clock(eta).rpartition('.')[0]}"
    length = 10 if width < 70 else 20 if width < 100 else 30
    share = min(max(done / total, 0.0), 1.0) if total else 0.0
    bar = (full * round(share * length)).ljust(length, "─" if full == "━" else "-")
    line = f"{label:<{_LABEL_WIDTH}} {bar} {count} {left:<{_ETA_WIDTH + 4}}"
    for name, value in values.items():
        if name == "eta":
            continue
        figure = f" {shown(name)} {value:<6.4g}"
        if len(line) + len(figure.rstrip()) > width - 1:
            break
        line += figure
    return line.rstrip()[: max(width - 1, 0)]


class _Line(ProgressColumn):
    """The whole line as one column: columns of their own would take each other's room and jump."""

    max_refresh = None

    def __init__(self, width: Callable[[], int], full: str) -> None:
        super().__init__()
        self._width, self._full = width, full

    def render(self, task: Task) -> Text:
        """The line of `task` as it now stands."""
        if task.total is None:
            return Text(f"{task.description} ...", style="dim", no_wrap=True, overflow="crop")
        values: Mapping[str, float] = task.fields.get("values") or {}
        eta = values.get("eta", task.time_remaining)
        line = bar_line(str(task.description), task.completed, int(task.total), eta, values, self._width(), self._full)
        return Text(line, no_wrap=True, overflow="crop")


class _Lines:
    """Lines for a log: a stage that lasts shows every tenth of it, or how far it is after half a minute."""

    def __init__(self, write: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._write, self._now = write, now
        self._last: dict[str, tuple[float, float]] = {}

    def __call__(self, p: Progress) -> None:
        """A line for `p`, if one is due."""
        now, share = self._now(), (p.done + p.part) / p.total
        if p.stage == "train":
            if p.values and not p.part:
                self._write(f"epoch {p.done}/{p.total}  {_figures(p.values)}")
            return
        at, before = self._last.setdefault(p.stage, (now, share))
        passed = now - at
        if passed >= _NEXT_LINE or (passed >= _FIRST_LINE and share >= before + _SHARE):
            self._last[p.stage] = (now, share)
            label = _LABELS.get(p.stage, p.stage)
            self._write(f"{label} {p.done:,}/{p.total:,} ({share:.0%})  {_figures(p.values)}".rstrip())


def _figures(values: Mapping[str, float]) -> str:
    """Named figures in one line; what remains to be done as a clock."""
    said = (f"ETA {clock(v)}" if k == "eta" else f"{shown(k)} {v:.4g}" for k, v in values.items())
    return "  ".join(said)


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[ProgressCallback]:
    """A callback that draws a line for each stage on a terminal, or writes lines now and then elsewhere; with warnings and notes.

    The screen shows at once that something is done: the libraries behind the commands take seconds to load. Nothing at all
    is shown when quiet.
    """
    console = err()
    full = "━" if (console.encoding or "").lower().startswith("utf") else "#"
    is_shown = console.is_terminal and not quiet
    bars = Bars(_Line(lambda: console.width, full), console=console, transient=True, disable=not is_shown)
    waiting = bars.add_task("loading", total=None)
    tasks: dict[str, TaskID] = {}
    lines = _Lines(lambda text: console.print(Text(text)))
    told: set[str] = set()

    def show(p: Progress) -> None:
        if p.total:
            bars.update(waiting, visible=False)
            if p.stage not in tasks:
                tasks[p.stage] = bars.add_task(_LABELS.get(p.stage, shown(p.stage)), total=p.total)
            bars.update(tasks[p.stage], completed=p.done + p.part, total=p.total, values=p.values)
            if not (quiet or is_shown):
                lines(p)
        elif p.message and p.level == "info":
            bars.update(waiting, description=shown(p.message), visible=True)
        if p.message and p.message not in told and not quiet and p.level in ("warning", "note"):
            # Stages that follow each other in one command warn of the same: once is enough.
            told.add(p.message)
            style = "yellow" if p.level == "warning" else ""
            print_message(p.message, [p.message], bars.console, style)

    with bars:
        yield show
