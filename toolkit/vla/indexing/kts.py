"""Kernel temporal segmentation (KTS, Potapov et al., ECCV 2014).

Segments between the content changes of a video.

With the linear kernel: choose the change points that minimise the scatter of unit frames about the
means of their segments, plus a penalty for each segment.
"""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError
from vla.spans import Window, validate_timestamps

PENALTY = 10.0
"""Penalty of a segment, relative to the difference of frames without a change. Chosen on collages
of classes that no reported figure uses: lower values split scenes, higher values merge scenes of
one second with their neighbours."""
_LAG = 0.5
"""Seconds between the frames that the difference without a change is estimated from."""
_MIN_DIFFERENCE = 1e-4
"""Minimum of half the squared distance of unit frames: the effect of float16 rounding and
compression."""
_MAX_FRAMES = 256
"""Maximum number of frames of a segment in the dynamic program; longer segments are merged from
such."""
_BLOCK = 64


def content_segments(
    values: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float
) -> list[Window]:
    """Return the segments between content changes and unions of them.

    At most `2 n - 1` windows for `n - 1` changes.

    The two most similar neighbours are merged repeatedly until the whole video is left. So there
    are segments of every length, each different from its neighbours, and at most twice as many as
    there are changes.

    Args:
        values: `(T, D)` raw features, finite, at least one frame.
        timestamps_seconds: `(T,)`, non-decreasing.
        duration_seconds: end of the video, not before the last timestamp.

    Returns:
        Windows by ascending start; of equal starts, the longer first. An offset of the times moves
        them by as much; the scale of a frame has no effect.

    Raises:
        ShapeError: the numbers of rows and timestamps differ, or there is no timestamp.
        UsageError: timestamps decrease or pass the end.
    """
    frames, edges, visible = _visible_frames(values, timestamps_seconds, duration_seconds)
    sums, seconds = _cumulative_sums(frames, edges)
    cost = penalty(frames, edges)
    change_points = _optimal_edges(sums, seconds, cost)
    pairs = sorted(
        _merge_neighbours(change_points, sums, seconds, cost), key=lambda pair: (pair[0], -pair[1])
    )
    # Frames of zero duration belong to the visible frame before them.
    first = np.append(visible, len(np.asarray(timestamps_seconds)))
    first[0] = 0
    return [(int(first[a]), int(first[b]), float(edges[a]), float(edges[b])) for a, b in pairs]


def penalty(frames: np.ndarray, edges: np.ndarray) -> float:
    """Return the penalty of a segment, in seconds times squared distance.

    Args:
        frames: `(T, D)` unit frames.
        edges: `(T + 1,)` seconds; frame `t` is visible from `edges[t]` to `edges[t + 1]`.
    """
    later = np.searchsorted(edges[:-1], edges[:-1] + _LAG - 1e-9)
    earlier = np.flatnonzero(later < len(frames))
    if not len(earlier):
        return PENALTY * _MIN_DIFFERENCE * _LAG
    differences = ((frames[later[earlier]] - frames[earlier]) ** 2).sum(1) / 2
    lag = float(np.median(edges[later[earlier]] - edges[earlier]))
    return PENALTY * max(float(np.median(differences)), _MIN_DIFFERENCE) * lag


def _visible_frames(
    values: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit frames of non-zero duration, their edges and their numbers.

    The last frame if there are none.
    """
    times = validate_timestamps(timestamps_seconds, duration_seconds)
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or len(rows) != len(times):
        raise ShapeError(
            f"features must have one row for each of {len(times)} timestamps, not the shape "
            f"{rows.shape}"
        )
    edges = np.append(times, float(duration_seconds))
    visible = np.flatnonzero(np.diff(edges) > 0)
    if not len(visible):
        visible = np.array([len(times) - 1])
    rows = rows[visible]
    frames = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return frames, np.append(edges[visible], edges[-1]), visible


def _cumulative_sums(frames: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `(T + 1, D)` sums of frames times seconds, and `(T + 1,)` sums of seconds, of all
    frames before each edge.
    """
    # A single frame of zero duration has weight 1.
    seconds = np.diff(edges) if edges[-1] > edges[0] else np.ones(1)
    sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames * seconds[:, None], 0)])
    return sums, np.append(0.0, np.cumsum(seconds))


def _optimal_edges(sums: np.ndarray, seconds: np.ndarray, cost: float) -> list[int]:
    """Return the edges, from 0 to `T`, of the segments of at most `_MAX_FRAMES` frames with the
    lowest total cost.

    The scatter of a segment is the sum of the squared lengths of its frames, which does not depend
    on the segmentation, minus the squared length of their sum divided by their seconds. So each
    pair of edges costs O(1) after the products of sums, which are computed in blocks.
    """
    count = len(seconds) - 1
    squares = (sums**2).sum(1)
    best, before = np.zeros(count + 1), np.zeros(count + 1, np.int64)
    for begin in range(1, count + 1, _BLOCK):
        end = min(begin + _BLOCK, count + 1)
        base = max(0, begin - _MAX_FRAMES)
        products = sums[base:end] @ sums[begin:end].T
        for last in range(begin, end):
            first = max(0, last - _MAX_FRAMES)
            squared_sums = (
                squares[last]
                + squares[first:last]
                - 2 * products[first - base : last - base, last - begin]
            )
            total = best[first:last] - squared_sums / (seconds[last] - seconds[first:last])
            index = int(total.argmin())
            best[last], before[last] = total[index] + cost, first + index
    edges = [count]
    while edges[-1]:
        edges.append(int(before[edges[-1]]))
    return edges[::-1]


def _merge_neighbours(
    edges: list[int], sums: np.ndarray, seconds: np.ndarray, cost: float
) -> list[tuple[int, int]]:
    """Return the segments between `edges`, and the unions from merging the two most similar
    neighbours until one is left.

    If a merge raises the scatter by less than `cost`, only `_MAX_FRAMES` separated its halves: the
    union replaces them.
    """
    ends = dict(pairwise(edges))
    starts = {end: start for start, end in ends.items()}

    def ward_distance(start: int, middle: int, end: int) -> float:
        """Return the increase in scatter from merging [start, middle) and [middle, end)."""
        left, right = seconds[middle] - seconds[start], seconds[end] - seconds[middle]
        difference = (sums[middle] - sums[start]) / left - (sums[end] - sums[middle]) / right
        return float(left * right / (left + right) * (difference @ difference))

    heap = [(ward_distance(starts[m], m, ends[m]), starts[m], m, ends[m]) for m in edges[1:-1]]
    heapq.heapify(heap)
    segments = dict.fromkeys(ends.items())
    # After the first expensive merge, halves are kept: a later merge may be cheap for another
    # reason.
    replaces_halves = True
    while heap:
        distance, start, middle, end = heapq.heappop(heap)
        if ends.get(start) != middle or ends.get(middle) != end:
            continue
        del ends[middle], starts[middle]
        ends[start], starts[end] = end, start
        replaces_halves = replaces_halves and distance < cost
        if replaces_halves:
            del segments[start, middle], segments[middle, end]
        segments[start, end] = None
        if start in starts:
            heapq.heappush(
                heap, (ward_distance(starts[start], start, end), starts[start], start, end)
            )
        if end in ends:
            heapq.heappush(heap, (ward_distance(start, end, ends[end]), start, end, ends[end]))
    return list(segments)
