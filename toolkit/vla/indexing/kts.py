"""Where what a video shows changes, told by its raw features alone: segments as long as what they show, of any length.

Kernel temporal segmentation (Potapov et al., ECCV 2014) with the linear kernel: cut where the spread of unit frames about the
means of their segments, and a price for each segment, come to least together.
"""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError
from vla.spans import Window, validate_timestamps

PENALTY = 10.0
"""A further segment must lessen the spread by so many times what frames differ by where nothing changes. Chosen on collages of
classes that no figure is of: less cuts scenes to pieces, more joins scenes of one second to their neighbours."""
_LAG = 0.5
"""Seconds between the frames that tell how much frames differ where nothing changes; frames of one instant tell of no noise."""
_LEAST = 1e-4
"""Half the squared distance of unit frames below which nothing differs: what float16 rounds, and compression."""
_REACH = 256
"""Frames of the longest segment that is looked for at once; longer ones are put together of such."""
_BLOCK = 64


def content_segments(values: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float) -> list[Window]:
    """What lies between the changes of a video, and unions of these: at most `2 n - 1` windows where there are `n - 1` changes.

    Of two neighbours those that are most alike become one, then again, until one is left: the whole video. So there are segments
    of every length, each unlike what comes before and after it, and never more than twice as many as there are changes.

    Args:
        values: `(T, D)` raw features, finite, at least one frame.
        timestamps_seconds: `(T,)`, non-decreasing.
        duration_seconds: end of the video, not before the last timestamp.

    Returns:
        In order of their starts, of one start the longer first. A shift in time shifts them; scaling a frame changes nothing.

    Raises:
        ShapeError: there is not one row of numbers for each timestamp, or no timestamp.
        UsageError: timestamps decrease or pass the end.
    """
    frames, edges, shown = _shown(values, timestamps_seconds, duration_seconds)
    sums, seconds = _sums(frames, edges)
    cost = penalty(frames, edges)
    pairs = sorted(_joined(_cheapest(sums, seconds, cost), sums, seconds, cost), key=lambda pair: (pair[0], -pair[1]))
    # Whatever lies between frames that are shown belongs to the one before.
    first = np.append(shown, len(np.asarray(timestamps_seconds)))
    first[0] = 0
    return [(int(first[a]), int(first[b]), float(edges[a]), float(edges[b])) for a, b in pairs]


def penalty(frames: np.ndarray, edges: np.ndarray) -> float:
    """What a further segment costs, in seconds times squared distance: unit frames `(T, D)`, shown between edges `(T + 1,)`."""
    later = np.searchsorted(edges[:-1], edges[:-1] + _LAG - 1e-9)
    earlier = np.flatnonzero(later < len(frames))
    if not len(earlier):
        return PENALTY * _LEAST * _LAG
    apart = ((frames[later[earlier]] - frames[earlier]) ** 2).sum(1) / 2
    lag = float(np.median(edges[later[earlier]] - edges[earlier]))
    return PENALTY * max(float(np.median(apart)), _LEAST) * lag


def _shown(
    values: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit frames that have time on screen, their edges, and which frames they are; the last where none has any."""
    times = validate_timestamps(timestamps_seconds, duration_seconds)
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or len(rows) != len(times):
        raise ShapeError(
            f"features are one row for each of {len(times)} timestamps, not an array of shape {rows.shape}"
        )
    edges = np.append(times, float(duration_seconds))
    shown = np.flatnonzero(np.diff(edges) > 0)
    if not len(shown):
        shown = np.array([len(times) - 1])
    rows = rows[shown]
    frames = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return frames, np.append(edges[shown], edges[-1]), shown


def _sums(frames: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(T + 1, D)` frames, weighed by seconds, and `(T + 1,)` seconds, of all frames before each edge."""
    # One frame without any time stands for itself.
    seconds = np.diff(edges) if edges[-1] > edges[0] else np.ones(1)
    summed = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames * seconds[:, None], 0)])
    return summed, np.append(0.0, np.cumsum(seconds))


def _cheapest(sums: np.ndarray, seconds: np.ndarray, cost: float) -> list[int]:
    """Edges of the segments of at most `_REACH` frames that are cheapest together, from 0 to `T`.

    The spread of a segment is the squared length of its frames, which is the same however they are cut, less that of their sum
    over their seconds: hence O(1) for each pair of edges, after products of sums, which are taken in blocks.
    """
    count = len(seconds) - 1
    squares = (sums**2).sum(1)
    best, before = np.zeros(count + 1), np.zeros(count + 1, np.int64)
    for begin in range(1, count + 1, _BLOCK):
        end = min(begin + _BLOCK, count + 1)
        base = max(0, begin - _REACH)
        products = sums[base:end] @ sums[begin:end].T
        for last in range(begin, end):
            first = max(0, last - _REACH)
            gained = squares[last] + squares[first:last] - 2 * products[first - base : last - base, last - begin]
            total = best[first:last] - gained / (seconds[last] - seconds[first:last])
            place = int(total.argmin())
            best[last], before[last] = total[place] + cost, first + place
    edges = [count]
    while edges[-1]:
        edges.append(int(before[edges[-1]]))
    return edges[::-1]


def _joined(edges: list[int], sums: np.ndarray, seconds: np.ndarray, cost: float) -> list[tuple[int, int]]:
    """The segments between `edges`, and what comes of joining the two neighbours most alike until one is left.

    What joining makes dearer by less than `cost` was cut by the reach alone: then the union takes the place of its halves.
    """
    ends = dict(pairwise(edges))
    starts = {end: start for start, end in ends.items()}

    def dearer(start: int, middle: int, end: int) -> float:
        """How much the spread grows when [start, middle) and [middle, end) become one (Ward's distance)."""
        left, right = seconds[middle] - seconds[start], seconds[end] - seconds[middle]
        apart = (sums[middle] - sums[start]) / left - (sums[end] - sums[middle]) / right
        return float(left * right / (left + right) * (apart @ apart))

    waiting = [(dearer(starts[m], m, ends[m]), starts[m], m, ends[m]) for m in edges[1:-1]]
    heapq.heapify(waiting)
    found = dict.fromkeys(ends.items())
    # Later on a union may be cheap, too, of what became dear before: these halves stay.
    is_forced = True
    while waiting:
        more, start, middle, end = heapq.heappop(waiting)
        if ends.get(start) != middle or ends.get(middle) != end:
            continue
        del ends[middle], starts[middle]
        ends[start], starts[end] = end, start
        is_forced = is_forced and more < cost
        if is_forced:
            del found[start, middle], found[middle, end]
        found[start, end] = None
        if start in starts:
            heapq.heappush(waiting, (dearer(starts[start], start, end), starts[start], start, end))
        if end in ends:
            heapq.heappush(waiting, (dearer(start, end, ends[end]), start, end, ends[end]))
    return list(found)
