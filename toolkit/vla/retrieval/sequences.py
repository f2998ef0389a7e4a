"""First this, then that: one thing after another in a video, by dynamic programming over the curves of its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla.retrieval.similarity_curve import contrast_threshold, smooth
from vla.spans import iou

_OVERLAP = 0.3


@dataclass(frozen=True)
class EventSequence:
    """One way through a video on which the steps follow each other.

    Attributes:
        spans: `(M, 2)` seconds, one for each step; they ascend, and none overlaps the next.
        peaks: `(M,)` seconds, when the frame that was chosen for each is shown; they ascend.
        score_gap: mean over the steps of what the frame's smoothed cosine is below the best one of the video; not negative.
    """

    spans: np.ndarray
    peaks: np.ndarray
    score_gap: float


def find_sequences(
    curves: Sequence[np.ndarray],
    timestamps_seconds: np.ndarray,
    duration_seconds: float,
    within: float = math.inf,
    most: int = 1,
) -> list[EventSequence]:
    """The best ways to choose a frame for each step, each later than the one before by at most `within` seconds, best first.

    A way is as good as the sum of its frames' smoothed cosines; the best one for every last frame is found exactly. Of ways that
    overlap, from the start of the first span to the end of the last, by an IoU of more than 0.3, the best is kept. A step's span
    is what lies above its level (`localise.level_of`) round its frame without a break; where spans of two steps meet, they part
    where it costs least. (Dynamic programming over frozen embeddings: DANTE, arXiv 2512.13169.)

    Args:
        curves: for each step `(T,)` cosines with the video's frames.
        timestamps_seconds: `(T,)` when each frame is shown, non-decreasing.
        duration_seconds: when the last one ends.
        within: seconds, above 0.
        most: ways to return.

    Returns:
        None at all where the video has fewer frames with time on screen than there are steps, or none that follow in time.
    """
    times = np.asarray(timestamps_seconds, np.float64)
    edges = np.append(times, duration_seconds)
    shown = np.diff(edges) > 0 if edges[-1] > edges[0] else np.arange(len(times)) == len(times) - 1
    times = times[shown]
    smoothed = [smooth(np.asarray(curve, np.float64)[shown], times) for curve in curves]
    edges = np.append(times, duration_seconds)
    first = np.searchsorted(times, times - within, side="left")
    total = smoothed[0]
    froms: list[np.ndarray] = []
    for curve in smoothed[1:]:
        best, at = _best_before(total, first)
        total, froms = best + curve, [*froms, at]
    highest = sum(float(curve.max()) for curve in smoothed) if len(times) else 0.0
    found: list[EventSequence] = []
    for end in _summits(total):
        if len(found) == most:
            break
        frames = [int(end)]
        for at in reversed(froms):
            frames.append(int(at[frames[-1]]))
        frames.reverse()
        spans = edges[_ranges(smoothed, frames)]
        whole = [[spans[0, 0], spans[-1, 1]]]
        if all(iou(whole, [[c.spans[0, 0], c.spans[-1, 1]]])[0, 0] <= _OVERLAP for c in found):
            behind = max(0.0, highest - float(total[end])) / len(smoothed)
            found.append(EventSequence(spans, times[frames], behind))
    return found


def _best_before(values: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each frame `t` the highest of `values[first[t]:t]`, -inf of none, and where it is, the earliest of equal ones.

    By maxima over runs of 1, 2, 4, ... frames, so every window costs the same.
    """
    count = len(values)
    where = np.arange(count)
    levels = [where]
    while 2 ** len(levels) <= count:
        half = 2 ** (len(levels) - 1)
        left, right = levels[-1][:-half], levels[-1][half:]
        levels.append(np.where(values[right] > values[left], right, left))
    best, at = np.full(count, -np.inf), np.zeros(count, np.int64)
    lengths = where - first
    for level, winners in enumerate(levels):
        mine = np.flatnonzero((lengths >= 2**level) & (lengths < 2 ** (level + 1)))
        left, right = winners[first[mine]], winners[mine - 2**level]
        at[mine] = np.where(values[right] > values[left], right, left)
        best[mine] = values[at[mine]]
    return best, at


def _summits(total: np.ndarray) -> np.ndarray:
    """Frames at which `total` is finite and no lower than at those beside it, the highest first, of equal ones the earliest."""
    around = np.concatenate([[-np.inf], total, [-np.inf]])
    is_summit = np.isfinite(total) & (total >= around[:-2]) & (total >= around[2:])
    places = np.flatnonzero(is_summit)
    found: np.ndarray = places[np.argsort(-total[places], kind="stable")]
    return found


def _ranges(curves: Sequence[np.ndarray], frames: list[int]) -> np.ndarray:
    """`(M, 2)` first frames and last ones, exclusive, of each step's span."""
    # A frame below the curve's background has a level above itself.
    levels = [
        min(contrast_threshold(curve, float(curve[t])), float(curve[t]))
        for curve, t in zip(curves, frames, strict=True)
    ]
    above = [curve - level for curve, level in zip(curves, levels, strict=True)]
    ranges = []
    for excess, t in zip(above, frames, strict=True):
        # Level and frame may be the same number, worked out twice.
        low = excess < -1e-12
        before, after = np.flatnonzero(low[:t]), np.flatnonzero(low[t:])
        ranges.append([before[-1] + 1 if len(before) else 0, t + after[0] if len(after) else len(excess)])
    for i in range(len(frames) - 1):
        if ranges[i][1] > ranges[i + 1][0]:
            between = slice(frames[i] + 1, frames[i + 1])
            gained = np.cumsum(np.append(0.0, above[i][between] - above[i + 1][between]))
            parting = frames[i] + 1 + int(gained.argmax())
            ranges[i][1], ranges[i + 1][0] = min(ranges[i][1], parting), max(ranges[i + 1][0], parting)
    return np.array(ranges)
