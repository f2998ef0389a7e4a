"""Progress of long operations, reported to a callback. The library prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """State of an operation at one moment.

    Attributes:
        stage: name of the operation: `extract`, `train`, `index`, `render` ...
        done: number of completed units.
        total: number of units; 0 if unknown.
        message: one line for a person, or empty.
        level: `info`, `warning` (something was left out) or `note` (stays on screen).
        values: named numbers, e.g. losses or frames per second.
        part: completed share of the units in progress, in units.
    """

    stage: str
    done: int = 0
    total: int = 0
    message: str = ""
    level: str = "info"
    values: Mapping[str, float] = field(default_factory=dict)
    part: float = 0.0


ProgressCallback = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Ignore all progress; the default callback."""


class ByteCounter:
    """Progress in megabytes.

    Args:
        stage: name of the operation.
        total: number of bytes.
        progress: callback.
        done: number of bytes that are done from the start.
    """

    def __init__(self, stage: str, total: int, progress: ProgressCallback, done: int = 0) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._done, self._start = done, done
        self._time = time.monotonic()
        self.add(0)

    def add(self, count: int) -> None:
        """Count bytes, negative if a download starts over."""
        self._done += count
        seconds = time.monotonic() - self._time
        rate = (self._done - self._start) / 1e6 / seconds if seconds > 0.5 else 0.0
        total = max(-(-self._total // 1_000_000), 1)
        megabytes = min(max(self._done, 0) / 1e6, total)
        values = {"MB/s": rate} if rate > 0 else {}
        self._progress(
            Progress(
                self._stage, int(megabytes), total, values=values, part=megabytes - int(megabytes)
            )
        )
