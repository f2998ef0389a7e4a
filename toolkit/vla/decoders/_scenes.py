"""Where shots begin: changes of the picture that stand out from the changes around them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np

RATE = 4
"""Looks a second."""
_SIDE = 16
_LEAST = 18.0  # grey levels of mean change below which nothing is a cut, however still the rest is
_TIMES = 3.0  # how much larger than the changes around it a cut is
_LONGEST = Fraction(10)


def thumbnail(frame: av.VideoFrame) -> np.ndarray:
    """`(16, 16, 3)` float32 of a libav frame, averaged over areas."""
    small = frame.reformat(width=_SIDE, height=_SIDE, format="rgb24", interpolation="AREA", threads=1)
    return np.asarray(small.to_ndarray(), np.float32)


def scene_times(looks: Iterable[tuple[Fraction, np.ndarray]]) -> list[Fraction]:
    """The middle of each shot, in seconds; of a shot longer than ten seconds, the middle of each of its equal parts.

    Args:
        looks: times and thumbnails, ascending.
    """
    times: list[Fraction] = []
    changes = [0.0]
    before: np.ndarray | None = None
    for time, picture in looks:
        if before is not None:
            changes.append(float(np.abs(picture - before).mean()))
        times.append(time)
        before = picture
    if not times:
        return []
    cuts = [0, *(i for i in range(1, len(times)) if _is_cut(changes, i))]
    found: list[Fraction] = []
    for first, last in itertools.pairwise([*cuts, len(times) - 1]):
        start, end = times[first], times[last]
        # There is no more to see than was looked at: a file may claim to show one frame for a thousand years.
        parts = max(1, min(-(-(end - start) // _LONGEST), last - first))
        found += [start + (end - start) * (2 * k + 1) / (2 * parts) for k in range(int(parts))]
    return sorted(set(found))


def _is_cut(changes: list[float], i: int) -> bool:
    around = [changes[j] for j in range(max(1, i - RATE), min(len(changes), i + RATE + 1)) if j != i]
    # The second largest: a cut nearby must not hide this one.
    usual = sorted(around)[-2] if len(around) > 1 else 0.0
    return changes[i] >= _LEAST and changes[i] >= _TIMES * usual
