"""Throughput of a run: samples per second, remaining time, and when to report and to save."""

from __future__ import annotations

import time

_MIN_SAVE_INTERVAL = 5.0
"""Seconds."""
_SHOW_INTERVAL = 0.5
"""Seconds."""
_SAVE_COST_FACTOR = 30
"""Minimum interval between saves, as a multiple of the duration of a save."""


class Throughput:
    """Clock of the steps of a run.

    Args:
        done: steps taken before.
        total: steps of the run.
    """

    def __init__(self, done: int, total: int) -> None:
        self._start = self._last_save = self._last_show = time.monotonic()
        self._remaining, self._steps, self._samples, self._save_seconds = total - done, 0, 0, 0.0

    def step(self, samples: int) -> None:
        """Count a step on `samples` videos."""
        self._steps += 1
        self._samples += samples

    def values(self) -> dict[str, float]:
        """Return `samples/s`, videos per second, and `eta`, seconds to the last epoch.

        Both include all pauses.
        """
        seconds = max(1e-9, time.monotonic() - self._start)
        eta = seconds / max(1, self._steps) * (self._remaining - self._steps)
        return {"samples/s": self._samples / seconds, "eta": eta}

    def should_save(self) -> bool:
        """Return whether the last save is long ago."""
        return time.monotonic() - self._last_save > max(
            _MIN_SAVE_INTERVAL, _SAVE_COST_FACTOR * self._save_seconds
        )

    def record_save(self, start: float) -> None:
        """Record a save that began at `start`, a time of `time.monotonic`."""
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - start

    def should_show(self) -> bool:
        """Return True about twice a second."""
        now = time.monotonic()
        is_due = now - self._last_show > _SHOW_INTERVAL
        if is_due:
            self._last_show = now
        return is_due
