"""Spans: when something happens, as `(start, end)` in seconds, half-open: the end no longer belongs to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

Window = tuple[int, int, float, float]
"""`(first_frame, last_frame_exclusive, start_seconds, end_seconds)`."""


def iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Time that two spans share, as a part of the time that either covers, for every pair of spans.

    Args:
        a: `(M, 2)` seconds.
        b: `(N, 2)` seconds.

    Returns:
        `(M, N)` in [0, 1]; 0 where a span is empty, even against itself.

    Raises:
        ShapeError: not rows of two numbers.
        UsageError: a span is not finite, or ends before it starts.
    """
    return _overlap(_checked(a), _checked(b))


def nms(
    spans: ArrayLike, scores: ArrayLike, threshold: float, most: int | None = None, nested: float = 1.0
) -> np.ndarray:
    """Indices of the spans that no better kept span overlaps by more than `threshold` IoU, best first.

    Args:
        spans: `(N, 2)` seconds.
        scores: `(N,)`, higher is better; of equal scores the lower index is the better one.
        threshold: in [0, 1]; 0 keeps only spans that share no time, 1 keeps all.
        most: stop at so many.
        nested: nor may it share more than this part of the shorter of the two; 1 allows one within the other.

    Returns:
        `(K,)` int64.

    Raises:
        ShapeError: spans and scores disagree.
        UsageError: a span is malformed, a score is NaN, or a threshold is out of range.
    """
    spans, scores = _checked(spans), np.asarray(scores, dtype=np.float64)
    if scores.shape != spans.shape[:1]:
        raise ShapeError(f"{len(spans)} spans need as many scores, not {scores.shape}")
    if np.isnan(scores).any() or not (0 <= threshold <= 1 and 0 <= nested <= 1):
        raise UsageError(f"scores must be numbers and thresholds {threshold} and {nested} must lie in [0, 1]")
    order = np.argsort(-scores, kind="stable")
    kept: list[np.intp] = []
    while len(order) and (most is None or len(kept) < most):
        best, rest = order[0], order[1:]
        kept.append(best)
        apart = _overlap(spans[[best]], spans[rest])[0] <= threshold
        if nested < 1:
            shared = np.minimum(spans[rest, 1], spans[best, 1]) - np.maximum(spans[rest, 0], spans[best, 0])
            shorter = np.minimum(spans[rest, 1] - spans[rest, 0], spans[best, 1] - spans[best, 0])
            apart &= shared <= nested * shorter
        order = rest[apart]
    return np.array(kept, dtype=np.int64)


def merge(spans: ArrayLike, gap: float = 0.0) -> np.ndarray:
    """The same time as fewest spans, sorted; spans at most `gap` seconds apart become one, so touching ones always do.

    Args:
        spans: `(N, 2)` seconds, in any order.
        gap: seconds, not negative.

    Returns:
        `(K, 2)`, sorted, more than `gap` apart.

    Raises:
        ShapeError: not rows of two numbers.
        UsageError: a span is malformed or the gap is negative.
    """
    spans = _checked(spans)
    if not gap >= 0:
        raise UsageError(f"a gap is a number of seconds from 0 up, not {gap}")
    if not len(spans):
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reached = np.maximum.accumulate(spans[:, 1])
    opens = np.flatnonzero(np.append(True, spans[1:, 0] - reached[:-1] > gap))
    return np.stack([spans[opens, 0], np.append(reached[opens[1:] - 1], reached[-1])], axis=1)


def windows(
    timestamps_seconds: ArrayLike,
    duration_seconds: float,
    lengths_seconds: Sequence[float] = (2, 4, 8, 16, 32, 64, 128),
    overlap: float = 0.5,
) -> list[Window]:
    """The whole video, then windows of each length that is shorter, each range of frames once.

    A frame is shown from its timestamp to the next frame's, the last one to the end of the video. The bounds of a
    window are bounds of frames: those nearest to the regular grid. Hence a window is about as long as asked, the
    windows of one length leave no frame out, and one of them reaches the end; one that comes out as the whole video is
    not listed again. With frames at 0, 1, 2, 3, 4 s of a 5 s video, length 2 gives [0, 2), [1, 3), [2, 4), [3, 5).

    Args:
        timestamps_seconds: `(T,)`, non-decreasing, at least one.
        duration_seconds: end of the video, not before the last timestamp.
        lengths_seconds: positive.
        overlap: part of a window that the next one of its length covers again, in [0, 1).

    Returns:
        By order of `lengths_seconds`, then of time. Frames without time on screen never make a window of their own.

    Raises:
        ShapeError: timestamps are not one row of at least one number.
        UsageError: timestamps decrease or pass the end, a length is not positive, or the overlap is out of range.
    """
    timestamps = validate_timestamps(timestamps_seconds, duration_seconds)
    if not all(0 < length < np.inf for length in lengths_seconds) or not 0 <= overlap < 1:
        raise UsageError(f"windows need positive lengths and an overlap in [0, 1), not {lengths_seconds} and {overlap}")
    begin, end = timestamps[0], float(duration_seconds)
    bounds = [np.array([[begin, end]])]
    for length in lengths_seconds:
        if length < end - begin:
            starts = np.append(_grid(timestamps, end, length, length * (1 - overlap)), end - length)
            bounds.append(_snapped(np.stack([starts, starts + length], axis=1), np.append(timestamps, end)))
    return _unique_windows(np.concatenate(bounds), timestamps, end)


def frames_in(timestamps_seconds: ArrayLike, duration_seconds: float, span: Sequence[float]) -> tuple[int, int]:
    """`(first, last_exclusive)` of the frames on screen at some moment of the span: always at least one, the nearest.

    Args:
        timestamps_seconds: `(T,)`, non-decreasing, at least one; a frame is shown until the next one's timestamp.
        duration_seconds: until when the last frame is shown.
        span: `(start, end)` seconds; an empty span is the moment `start`.

    Raises:
        ShapeError: timestamps are not one row of at least one number.
        UsageError: timestamps decrease or pass the end, or the span is malformed.
    """
    timestamps = validate_timestamps(timestamps_seconds, duration_seconds)
    start, end = np.clip(_checked([span])[0], timestamps[0], duration_seconds)
    # The right side: of frames with one timestamp only the last has any time on screen.
    first = int(np.searchsorted(timestamps, start, side="right")) - 1
    return first, max(first + 1, int(np.searchsorted(timestamps, end, side="left")))


def _checked(spans: ArrayLike) -> np.ndarray:
    rows = np.asarray(spans, dtype=np.float64)
    rows = rows.reshape(0, 2) if rows.shape == (0,) else rows
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ShapeError(f"spans are rows of (start, end), not an array of shape {rows.shape}")
    wrong = np.flatnonzero(~(np.isfinite(rows).all(axis=1) & (rows[:, 0] <= rows[:, 1])))
    if len(wrong):
        raise UsageError(f"span {wrong[0]} is {rows[wrong[0]].tolist()}: a span is finite and starts before it ends")
    return rows


def validate_timestamps(timestamps: ArrayLike, duration: float) -> np.ndarray:
    """`(T,)` float64, at least one; raises ShapeError or UsageError unless they ascend to the end of the video."""
    times = np.asarray(timestamps, dtype=np.float64)
    if times.ndim != 1 or not len(times):
        raise ShapeError(f"a video needs one row of at least one timestamp, not an array of shape {times.shape}")
    if not (np.isfinite(duration) and (np.diff(times, append=duration) >= 0).all() and np.isfinite(times[0])):
        raise UsageError(f"timestamps must not decrease, nor pass the end of the video at {duration} s")
    return times


def _grid(timestamps: np.ndarray, end: float, length: float, step: float) -> np.ndarray:
    """`np.arange(timestamps[0], end - length, step)` without starts whose window snaps to the same frames as the one before.

    Work and memory grow with frames, whatever the timestamps say: a window snaps to other frames only where its start or its end
    passes the middle between two edges.
    """
    begin = timestamps[0]
    count = np.ceil((end - length - begin) / step)
    edges = np.append(timestamps, end)
    middles = (edges[:-1] + edges[1:]) / 2
    around = np.arange(-1, 3)
    if count <= 2 * len(around) * len(middles):
        numbers = np.arange(count)
    else:
        passed = np.floor((np.concatenate([middles, middles - length]) - begin) / step)
        numbers = np.unique(np.clip((passed[:, None] + around).ravel(), 0, count - 1))
    # As `np.arange` computes them, to the last bit.
    second = begin + step
    found: np.ndarray = np.where(numbers == 1, second, begin + numbers * (second - begin))
    return found


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    shared = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    shared = np.maximum(shared, 0.0)
    covered = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None, :] - shared
    return np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)


def _snapped(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The edge nearest to each time; halfway, the earlier one."""
    after = np.clip(np.searchsorted(edges, times), 1, len(edges) - 1)
    below, above = edges[after - 1], edges[after]
    # The nanosecond makes 0.1 + 0.2 fall as 0.3 does.
    return np.where(times - below <= above - times + 1e-9, below, above)


def _unique_windows(bounds: np.ndarray, timestamps: np.ndarray, end: float) -> list[Window]:
    # The first row is the whole video and stays even if no frame of it has any time on screen.
    keep = np.append(True, bounds[1:, 1] > bounds[1:, 0])
    starts, ends = bounds[keep].T
    first = np.searchsorted(timestamps, starts)
    last = np.where(ends == end, len(timestamps), np.searchsorted(timestamps, ends))
    _, once = np.unique(first * (len(timestamps) + 1) + last, return_index=True)
    once.sort()
    columns = (first[once].tolist(), last[once].tolist(), starts[once].tolist(), ends[once].tolist())
    return list(zip(*columns, strict=True))
