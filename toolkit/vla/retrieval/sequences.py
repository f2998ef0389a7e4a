"""Event sequences: one event after another in a video, by dynamic programming over the similarity
curves of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla.localization.range_maximum import range_argmax
from vla.localization.similarity_curve import smooth
from vla.spans import iou

_MAX_IOU = 0.3


@dataclass(frozen=True)
class EventSequence:
    """A sequence of events in a video, one for each step of the query.

    Attributes:
        spans: `(M, 2)` seconds; ascending, without overlaps.
        peaks: `(M,)` seconds, times of the chosen frames; ascending.
        score_gap: mean over the steps of the difference between the highest smoothed cosine of the
            video and that of the chosen frame; not negative.
    """

    spans: np.ndarray
    peaks: np.ndarray
    score_gap: float


def find_sequences(
    curves: Sequence[np.ndarray],
    timestamps_seconds: np.ndarray,
    duration_seconds: float,
    within: float = math.inf,
    max_sequences: int = 1,
) -> list[EventSequence]:
    """Return the best choices of one frame for each step, each at most `within` seconds after the
    one before, best first.

    The score of a sequence is the sum of the smoothed cosines of its frames; the best sequence for
    each last frame is found exactly. Of sequences whose whole extents overlap by an IoU above 0.3,
    the best is kept. The span of a step is the contiguous range round its frame where the curve is
    above the middle of its mean and its value there; if the spans of two steps meet, they are
    separated where that costs least. (Dynamic programming over frozen embeddings: DANTE, arXiv
    2512.13169.)

    Args:
        curves: for each step `(T,)` cosines with the frames of the video.
        timestamps_seconds: `(T,)` start of each frame, non-decreasing.
        duration_seconds: end of the last frame.
        within: maximum number of seconds from one step to the next, above 0.
        max_sequences: maximum number of sequences.

    Returns:
        An empty list if the video has fewer visible frames than there are steps, or no frames that
        follow in time.
    """
    times = np.asarray(timestamps_seconds, np.float64)
    edges = np.append(times, duration_seconds)
    is_visible = (
        np.diff(edges) > 0 if edges[-1] > edges[0] else np.arange(len(times)) == len(times) - 1
    )
    times = times[is_visible]
    smooth_curves = [smooth(np.asarray(curve, np.float64)[is_visible], times) for curve in curves]
    edges = np.append(times, duration_seconds)
    first = np.searchsorted(times, times - within, side="left")
    total = smooth_curves[0]
    predecessors: list[np.ndarray] = []
    for curve in smooth_curves[1:]:
        argbest = range_argmax(total, first, np.arange(len(total)))
        best = np.where(argbest >= 0, total[argbest], -np.inf)
        total, predecessors = best + curve, [*predecessors, argbest]
    highest = sum(float(curve.max()) for curve in smooth_curves) if len(times) else 0.0
    sequences: list[EventSequence] = []
    for end in _local_maxima(total):
        if len(sequences) == max_sequences:
            break
        frames = [int(end)]
        for predecessor in reversed(predecessors):
            frames.append(int(predecessor[frames[-1]]))
        frames.reverse()
        spans = edges[_frame_ranges(smooth_curves, frames)]
        extent = [[spans[0, 0], spans[-1, 1]]]
        if all(iou(extent, [[s.spans[0, 0], s.spans[-1, 1]]])[0, 0] <= _MAX_IOU for s in sequences):
            score_gap = max(0.0, highest - float(total[end])) / len(smooth_curves)
            sequences.append(EventSequence(spans, times[frames], score_gap))
    return sequences


def _local_maxima(total: np.ndarray) -> np.ndarray:
    """Return frames with a finite `total` no lower than their neighbours', highest first.

    Of equal ones, the earliest.
    """
    neighbours = np.concatenate([[-np.inf], total, [-np.inf]])
    is_maximum = np.isfinite(total) & (total >= neighbours[:-2]) & (total >= neighbours[2:])
    frames = np.flatnonzero(is_maximum)
    order: np.ndarray = frames[np.argsort(-total[frames], kind="stable")]
    return order


def _frame_ranges(curves: Sequence[np.ndarray], frames: list[int]) -> np.ndarray:
    """Return `(M, 2)` first and last frames, exclusive, of the span of each step."""
    # A frame below the mean of its curve has a threshold above itself.
    thresholds = [
        min((float(curve.mean()) + float(curve[t])) / 2, float(curve[t]))
        for curve, t in zip(curves, frames, strict=True)
    ]
    excesses = [curve - threshold for curve, threshold in zip(curves, thresholds, strict=True)]
    ranges = []
    for excess, t in zip(excesses, frames, strict=True):
        # Threshold and value of the frame may be the same number up to rounding.
        is_low = excess < -1e-12
        before, after = np.flatnonzero(is_low[:t]), np.flatnonzero(is_low[t:])
        ranges.append(
            [before[-1] + 1 if len(before) else 0, t + after[0] if len(after) else len(excess)]
        )
    for i in range(len(frames) - 1):
        if ranges[i][1] > ranges[i + 1][0]:
            between = slice(frames[i] + 1, frames[i + 1])
            gains = np.cumsum(np.append(0.0, excesses[i][between] - excesses[i + 1][between]))
            boundary = frames[i] + 1 + int(gains.argmax())
            ranges[i][1], ranges[i + 1][0] = (
                min(ranges[i][1], boundary),
                max(ranges[i + 1][0], boundary),
            )
    return np.array(ranges)
