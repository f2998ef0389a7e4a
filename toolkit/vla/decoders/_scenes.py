"""Shot detection: picture changes that stand out from the changes around them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np

from vla.decoders._timestamps import middles

RATE = 4
"""Thumbnails per second."""
_SIDE = 16
_MIN_CHANGE = 18.0  # grey levels of mean change; a smaller change is never a cut
_MIN_RATIO = 3.0  # of a cut to the changes around it
_MAX_SECONDS = Fraction(10)


def thumbnail(frame: av.VideoFrame) -> np.ndarray:
    """Return the `(16, 16, 3)` float32 thumbnail of a libav frame, averaged over areas."""
    small = frame.reformat(
        width=_SIDE, height=_SIDE, format="rgb24", interpolation="AREA", threads=1
    )
    return np.asarray(small.to_ndarray(), np.float32)


def scene_times(thumbnails: Iterable[tuple[Fraction, np.ndarray]]) -> list[Fraction]:
    """Return the middle of each shot, in seconds.

    A shot longer than ten seconds is divided into equal parts, and the middle of each is returned.

    Args:
        thumbnails: times and thumbnails, ascending.
    """
    times: list[Fraction] = []
    changes = [0.0]
    previous: np.ndarray | None = None
    for time, picture in thumbnails:
        if previous is not None:
            changes.append(float(np.abs(picture - previous).mean()))
        times.append(time)
        previous = picture
    if not times:
        return []
    cuts = [0, *(i for i in range(1, len(times)) if _is_cut(changes, i))]
    centers: list[Fraction] = []
    for first, last in itertools.pairwise([*cuts, len(times) - 1]):
        start, end = times[first], times[last]
        # A file may claim to show one frame for a thousand years: one part per thumbnail is enough.
        parts = max(1, min(-(-(end - start) // _MAX_SECONDS), last - first))
        centers += middles(start, end, int(parts))
    return sorted(set(centers))


def _is_cut(changes: list[float], i: int) -> bool:
    around = [
        changes[j] for j in range(max(1, i - RATE), min(len(changes), i + RATE + 1)) if j != i
    ]
    # Take the second largest: a cut nearby must not hide this one.
    typical = sorted(around)[-2] if len(around) > 1 else 0.0
    return changes[i] >= _MIN_CHANGE and changes[i] >= _MIN_RATIO * typical
