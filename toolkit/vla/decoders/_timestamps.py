"""Timestamps of sampling, and queues of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import count


class TimestampQueue:
    """Ascending times in seconds; times that were taken but not served can be put back."""

    def __init__(self, times: Iterable[Fraction]) -> None:
        self._times = iter(times)
        self._back: deque[Fraction] = deque()

    def __iter__(self) -> Iterator[Fraction]:
        return self

    def __next__(self) -> Fraction:
        return self._back.popleft() if self._back else next(self._times)

    def push_back(self, times: Sequence[Fraction]) -> None:
        """Put back `times`, the last that were taken."""
        self._back.extendleft(reversed(times))

    def skip_to(self, until: Fraction) -> None:
        """Skip times before `until`: they would repeat a frame. The base class skips none."""


class Regular(TimestampQueue):
    """The endless times 0, step, 2 step, ...; a frame on screen for longer is sampled once.

    A file that claims to show a frame for a thousand years therefore costs no more than another.
    """

    def __init__(self, step: Fraction) -> None:
        self._step = step
        super().__init__(k * step for k in count())

    def skip_to(self, until: Fraction) -> None:
        """Skip times before `until`."""
        while self._back and self._back[0] < until:
            self._back.popleft()
        if not self._back:
            first = max(0, math.ceil(until / self._step))
            self._times = self._from(first)

    def _from(self, first: int) -> Iterator[Fraction]:
        return (k * self._step for k in count(first))


def middles(start: Fraction, end: Fraction, parts: int) -> list[Fraction]:
    """Return the middle of each of `parts` equal parts of the time from `start` to `end`."""
    return [start + (end - start) * (2 * k + 1) / (2 * parts) for k in range(parts)]
