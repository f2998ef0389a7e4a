"""How fast a run goes and how long it will take; when to say so, and when to keep its state."""

from __future__ import annotations

import time

_SAVE_SECONDS = 5.0
_SHOW_SECONDS = 0.5
_SHARE = 30
"""A state is saved so rarely that saving takes no more than this part of the time, one in so many."""


class Throughput:
    """A clock beside the steps of a run.

    Args:
        done: steps that were taken before.
        total: steps in all.
    """

    def __init__(self, done: int, total: int) -> None:
        self._began = self._saved = self._shown = time.monotonic()
        self._left, self._taken, self._samples, self._cost = total - done, 0, 0, 0.0

    def step(self, samples: int) -> None:
        """One more step was taken, on so many videos."""
        self._taken += 1
        self._samples += samples

    def values(self) -> dict[str, float]:
        """`samples/s`, videos trained on in a second, and `eta`, seconds to the last epoch; both with all that lies between."""
        spent = max(1e-9, time.monotonic() - self._began)
        left = spent / max(1, self._taken) * (self._left - self._taken)
        return {"samples/s": self._samples / spent, "eta": left}

    def should_save(self) -> bool:
        """True if the last state is old."""
        return time.monotonic() - self._saved > max(_SAVE_SECONDS, _SHARE * self._cost)

    def saved(self, began: float) -> None:
        """A state was saved; that `began` at this time of `time.monotonic`."""
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def should_show(self) -> bool:
        """True about twice a second."""
        now = time.monotonic()
        due = now - self._shown > _SHOW_SECONDS
        if due:
            self._shown = now
        return due
