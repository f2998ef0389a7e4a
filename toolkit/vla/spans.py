"""Temporal spans `(start, end)` in seconds, half-open: the end does not belong to the span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

Window = tuple[int, int, float, float]
"""`(first_frame, last_frame_exclusive, start_seconds, end_seconds)`."""


def iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Compute the intersection over union (IoU) of every pair of spans.

    Args:
        a: `(M, 2)` seconds.
        b: `(N, 2)` seconds.

    Returns:
        `(M, N)` in [0, 1]; 0 for an empty span, even with itself.

    Raises:
        ShapeError: not rows of two numbers.
        UsageError: a span is not finite, or ends before it starts.
    """
    return _overlap(_validate(a), _validate(b))


def nms(
    spans: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    most: int | None = None,
    nested: float = 1.0,
) -> np.ndarray:
    """Non-maximum suppression: drop spans that overlap a better one by more than `threshold` IoU.

    Args:
        spans: `(N, 2)` seconds.
        scores: `(N,)`, higher is better; ties go to the lower index.
        threshold: in [0, 1]; 0 keeps only disjoint spans, 1 keeps all.
        most: maximum number of spans to keep.
        nested: maximum shared fraction of the shorter span; 1 allows nested spans.

    Returns:
        `(K,)` int64, indices of the remaining spans, best first.

    Raises:
        ShapeError: spans and scores disagree.
        UsageError: a span is malformed, a score is NaN, or a threshold is out of range.
    """
    spans, scores = _validate(spans), np.asarray(scores, dtype=np.float64)
    if scores.shape != spans.shape[:1]:
        raise ShapeError(f"{len(spans)} spans need as many scores, not {scores.shape}")
    if np.isnan(scores).any() or not (0 <= threshold <= 1 and 0 <= nested <= 1):
        raise UsageError(
            f"scores must be numbers and thresholds {threshold} and {nested} must lie in [0, 1]"
        )
    order = np.argsort(-scores, kind="stable")
    selection: list[np.intp] = []
    while len(order) and (most is None or len(selection) < most):
        best, rest = order[0], order[1:]
        selection.append(best)
        is_apart = _overlap(spans[[best]], spans[rest])[0] <= threshold
        if nested < 1:
            intersection = np.minimum(spans[rest, 1], spans[best, 1]) - np.maximum(
                spans[rest, 0], spans[best, 0]
            )
            shorter = np.minimum(spans[rest, 1] - spans[rest, 0], spans[best, 1] - spans[best, 0])
            is_apart &= intersection <= nested * shorter
        order = rest[is_apart]
    return np.array(selection, dtype=np.int64)


def merge(spans: ArrayLike, gap: float = 0.0) -> np.ndarray:
    """Merge spans that overlap, touch, or are at most `gap` seconds apart.

    Args:
        spans: `(N, 2)` seconds, in any order.
        gap: seconds, not negative.

    Returns:
        `(K, 2)`, sorted, more than `gap` apart.

    Raises:
        ShapeError: not rows of two numbers.
        UsageError: a span is malformed or the gap is negative.
    """
    spans = _validate(spans)
    if not gap >= 0:
        raise UsageError(f"the gap must be at least 0 seconds, not {gap}")
    if not len(spans):
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    max_ends = np.maximum.accumulate(spans[:, 1])
    firsts = np.flatnonzero(np.append(True, spans[1:, 0] - max_ends[:-1] > gap))
    return np.stack([spans[firsts, 0], np.append(max_ends[firsts[1:] - 1], max_ends[-1])], axis=1)


def windows(
    timestamps_seconds: ArrayLike,
    duration_seconds: float,
    lengths_seconds: Sequence[float] = (2, 4, 8, 16, 32, 64, 128),
    overlap: float = 0.5,
) -> list[Window]:
    """Compute sliding windows: the whole video, then windows of each shorter length, without duplicates.

    A frame is shown from its timestamp to the next frame's, the last one to the end of the video. The
    bounds of a window are the bounds of frames nearest to a regular grid. Hence a window has about the
    requested length, and the windows of one length cover all frames to the end. With frames at 0, 1, 2,
    3, 4 s of a 5 s video, length 2 gives [0, 2), [1, 3), [2, 4), [3, 5).

    Args:
        timestamps_seconds: `(T,)`, non-decreasing, at least one.
        duration_seconds: end of the video, not before the last timestamp.
        lengths_seconds: positive.
        overlap: fraction of a window that the next one of its length covers, in [0, 1).

    Returns:
        The windows in order of `lengths_seconds`, then of time. No window consists of frames without
        time on screen.

    Raises:
        ShapeError: timestamps are not one row of at least one number.
        UsageError: timestamps decrease or pass the end, a length is not positive, or the overlap is out of range.
    """
    timestamps = validate_timestamps(timestamps_seconds, duration_seconds)
    if not all(0 < length < np.inf for length in lengths_seconds) or not 0 <= overlap < 1:
        raise UsageError(
            f"windows need positive lengths and an overlap in [0, 1), not {lengths_seconds} and "
            f"{overlap}"
        )
    begin, end = timestamps[0], float(duration_seconds)
    bounds = [np.array([[begin, end]])]
    for length in lengths_seconds:
        if length < end - begin:
            starts = np.append(_grid(timestamps, end, length, length * (1 - overlap)), end - length)
            bounds.append(
                _snap(np.stack([starts, starts + length], axis=1), np.append(timestamps, end))
            )
    return _unique_windows(np.concatenate(bounds), timestamps, end)


def frames_in(
    timestamps_seconds: ArrayLike, duration_seconds: float, span: Sequence[float]
) -> tuple[int, int]:
    """Return the range `(first, last_exclusive)` of frames on screen during a span, at least one frame.

    Args:
        timestamps_seconds: `(T,)`, non-decreasing, at least one; a frame is shown until the timestamp of
            the next.
        duration_seconds: end of the last frame.
        span: `(start, end)` seconds; an empty span is the moment `start`.

    Raises:
        ShapeError: timestamps are not one row of at least one number.
        UsageError: timestamps decrease or pass the end, or the span is malformed.
    """
    timestamps = validate_timestamps(timestamps_seconds, duration_seconds)
    start, end = np.clip(_validate([span])[0], timestamps[0], duration_seconds)
    # side="right": of frames with equal timestamps, only the last has time on screen.
    first = int(np.searchsorted(timestamps, start, side="right")) - 1
    return first, max(first + 1, int(np.searchsorted(timestamps, end, side="left")))


def _validate(spans: ArrayLike) -> np.ndarray:
    rows = np.asarray(spans, dtype=np.float64)
    rows = rows.reshape(0, 2) if rows.shape == (0,) else rows
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ShapeError(f"spans must be rows of (start, end), not an array of shape {rows.shape}")
    invalid = np.flatnonzero(~(np.isfinite(rows).all(axis=1) & (rows[:, 0] <= rows[:, 1])))
    if len(invalid):
        raise UsageError(
            f"span {invalid[0]} is {rows[invalid[0]].tolist()}: a span must be finite and start "
            f"before it ends"
        )
    return rows


def validate_timestamps(timestamps: ArrayLike, duration: float) -> np.ndarray:
    """Convert timestamps to `(T,)` float64 and validate them.

    Raises:
        ShapeError: they are not one row of at least one number.
        UsageError: they decrease or pass the end of the video, or are not finite.
    """
    times = np.asarray(timestamps, dtype=np.float64)
    if times.ndim != 1 or not len(times):
        raise ShapeError(
            f"timestamps must be one row of at least one timestamp, not an array of shape "
            f"{times.shape}"
        )
    if not (
        np.isfinite(duration)
        and (np.diff(times, append=duration) >= 0).all()
        and np.isfinite(times[0])
    ):
        raise UsageError(
            f"timestamps must not decrease or pass the end of the video at {duration} s"
        )
    return times


def _grid(timestamps: np.ndarray, end: float, length: float, step: float) -> np.ndarray:
    """Compute `np.arange(timestamps[0], end - length, step)` without windows equal to the one before.

    Work and memory grow with the number of frames, not with the duration: a window snaps to other frames
    only where its start or its end passes the middle between two edges.
    """
    begin = timestamps[0]
    count = np.ceil((end - length - begin) / step)
    edges = np.append(timestamps, end)
    middles = (edges[:-1] + edges[1:]) / 2
    around = np.arange(-1, 3)
    if count <= 2 * len(around) * len(middles):
        numbers = np.arange(count)
    else:
        crossings = np.floor((np.concatenate([middles, middles - length]) - begin) / step)
        numbers = np.unique(np.clip((crossings[:, None] + around).ravel(), 0, count - 1))
    # Equal to `np.arange` to the last bit.
    second = begin + step
    starts: np.ndarray = np.where(numbers == 1, second, begin + numbers * (second - begin))
    return starts


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    intersection = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(
        a[:, None, 0], b[None, :, 0]
    )
    intersection = np.maximum(intersection, 0.0)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def _snap(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the nearest edge for each time; of two equally near, the earlier."""
    after = np.clip(np.searchsorted(edges, times), 1, len(edges) - 1)
    below, above = edges[after - 1], edges[after]
    # The nanosecond makes 0.1 + 0.2 snap like 0.3.
    return np.where(times - below <= above - times + 1e-9, below, above)


def _unique_windows(bounds: np.ndarray, timestamps: np.ndarray, end: float) -> list[Window]:
    # The first row is the whole video and stays, even if no frame has time on screen.
    keep = np.append(True, bounds[1:, 1] > bounds[1:, 0])
    starts, ends = bounds[keep].T
    first = np.searchsorted(timestamps, starts)
    last = np.where(ends == end, len(timestamps), np.searchsorted(timestamps, ends))
    _, rows = np.unique(first * (len(timestamps) + 1) + last, return_index=True)
    rows.sort()
    columns = (
        first[rows].tolist(),
        last[rows].tolist(),
        starts[rows].tolist(),
        ends[rows].tolist(),
    )
    return list(zip(*columns, strict=True))
