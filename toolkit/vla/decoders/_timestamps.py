"""The times at which a video is looked at."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import count


class TimestampQueue:
    """Ascending times in seconds; what was taken and not served can be put back."""

    def __init__(self, times: Iterable[Fraction]) -> None:
        self._times = iter(times)
        self._back: deque[Fraction] = deque()

    def __iter__(self) -> Iterator[Fraction]:
        return self

    def __next__(self) -> Fraction:
        return self._back.popleft() if self._back else next(self._times)

    def push_back(self, times: Sequence[Fraction]) -> None:
        """Let `times`, the last that were taken, come again."""
        self._back.extendleft(reversed(times))

    def skip_to(self, until: Fraction) -> None:
        """What comes before `until` would show a frame again that was shown. It may be left out; here it is not."""


class Regular(TimestampQueue):
    """0, step, 2 step and so on without end; a frame that stays on screen for longer is looked at once.

    So a file that claims to show a frame for a thousand years costs no more than any other.
    """

    def __init__(self, step: Fraction) -> None:
        self._step = step
        super().__init__(k * step for k in count())

    def skip_to(self, until: Fraction) -> None:
        """Leave out what comes before `until`."""
        while self._back and self._back[0] < until:
            self._back.popleft()
        if not self._back:
            first = max(0, math.ceil(until / self._step))
            self._times = self._from(first)

    def _from(self, first: int) -> Iterator[Fraction]:
        return (k * self._step for k in count(first))
