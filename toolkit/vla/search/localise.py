"""When in a video: spans from the curve of one query's cosines with the video's frames. Nothing here is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.spans import frames_in, nms

_LEVELS = np.linspace(0.3, 0.98, 18)
"""Quantiles of the curve: what lies above one of them without a break is a candidate."""
_GAP = 1.0
"""Seconds that the curve may dip below a level within one candidate."""
_SMOOTH = 0.5
"""Standard deviation, in seconds, of the Gaussian that the curve is smoothed with."""
_LEVEL = 0.7
"""How far the level that counts as shown lies from the curve's background (0) to its peak (1)."""
_OVERLAP = 0.3


@dataclass(frozen=True)
class Spans:
    """Moments of one video for one query, best first.

    Attributes:
        spans: `(N, 2)` seconds, at least one; their bounds are bounds of frames.
        scores: `(N,)` on no scale that other videos or queries share; 0 of what does not rise above the level.
        peaks: `(N,)` seconds: when the frame with the highest value in the span is shown.
    """

    spans: np.ndarray
    scores: np.ndarray
    peaks: np.ndarray


def localise(
    curve: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float, others: ArrayLike = (), most: int = 10
) -> Spans:
    """The spans over which the curve rises highest above its level for longest.

    A span's score is the time integral, over the span, of what the smoothed curve exceeds a level by; the level lies between
    the curve's background and its peak. The background is the median of what lies in the lower half of the curve's range: the
    median of all would lie within a moment that takes most of a short video. Longer spans gain while what they add is above
    the level, so both ends are decided. Candidates are the stretches above that level and above many quantiles of the curve,
    with and without its short dips (the watershed of zero-shot temporal grounding: Diwan et al. 2023, TAG), and `others`.
    Where fewer than `most` rise, those of `others` with the highest mean follow. Adding a number to the curve changes nothing;
    multiplying it multiplies the scores; a shift in time shifts the spans.

    Args:
        curve: `(T,)` cosines, one for each frame.
        timestamps_seconds: `(T,)` when each frame is shown, non-decreasing; it is on screen until the next one.
        duration_seconds: when the last frame ends.
        others: `(M, 2)` seconds, further candidates; brought to bounds of frames.
        most: spans to return.

    Returns:
        Spans that overlap by an IoU of at most 0.3. The whole video with score 0 where the curve is flat.

    Raises:
        ShapeError: curve and timestamps disagree, or there is no frame.
        UsageError: a value is not finite, timestamps decrease, a span is malformed, or `most` is not positive.
    """
    values, times = np.asarray(curve, np.float64), np.asarray(timestamps_seconds, np.float64)
    if values.ndim != 1 or values.shape != times.shape or not len(values):
        raise ShapeError(f"a curve has one value for each frame, not {values.shape} for timestamps {times.shape}")
    edges = np.append(times, duration_seconds)
    if not np.isfinite(values).all() or not np.isfinite(edges).all() or (np.diff(edges) < 0).any() or most < 1:
        raise UsageError(f"a curve is finite, its times ascend to the end, and most is 1 or more, not {most}")
    # Frames without time on screen, of which the last is shown, count for nothing.
    shown = np.diff(edges) > 0 if edges[-1] > edges[0] else np.arange(len(times)) == len(times) - 1
    values, times = values[shown], times[shown]
    edges = np.append(times, duration_seconds)
    smoothed = smooth(values, times)
    lowest, peak = float(smoothed.min()), float(smoothed.max())
    level = level_of(smoothed, peak)
    gained = np.append(0.0, np.cumsum(np.diff(edges) * (smoothed - level)))
    levels = np.append(np.quantile(smoothed, _LEVELS), level)
    given = _ranges(times, float(duration_seconds), others)
    ranges = np.concatenate([_stretches(smoothed, edges, levels), given])
    scores = gained[ranges[:, 1]] - gained[ranges[:, 0]]
    rising = (scores > 0) & (peak > lowest)
    if not rising.any():
        ranges, scores = np.array([[0, len(values)]]), np.zeros(1)
    else:
        summed = np.append(0.0, np.cumsum(np.diff(edges) * (values - values.max())))
        means = (summed[given[:, 1]] - summed[given[:, 0]]) / (edges[given[:, 1]] - edges[given[:, 0]])
        ranges, scores = np.concatenate([ranges[rising], given]), np.append(scores[rising], np.minimum(means, 0.0))
    kept = nms(edges[ranges], scores, _OVERLAP, most=most)
    ranges = ranges[kept]
    peaks = np.array([times[first + int(values[first:last].argmax())] for first, last in ranges])
    return Spans(edges[ranges], np.maximum(scores[kept], 0.0), peaks)


def level_of(smoothed: np.ndarray, peak: float) -> float:
    """What counts as shown where the curve comes up to `peak`: so far from its background, as `localise` has it, to that."""
    lowest, highest = float(smoothed.min()), float(smoothed.max())
    background = float(np.median(smoothed[smoothed <= (lowest + highest) / 2]))
    return background + _LEVEL * (peak - background)


def smooth(curve: np.ndarray, timestamps_seconds: np.ndarray) -> np.ndarray:
    """`(T,)` the curve through a Gaussian of half a second, counted in frames of the median distance; ends are carried on."""
    steps = np.diff(timestamps_seconds)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    if not step or len(curve) < 2:
        return curve
    reach = min(int(np.ceil(3 * _SMOOTH / step)), len(curve))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / _SMOOTH) ** 2)
    # Differences to the first value: a constant stays the constant to the last bit, whatever its size.
    moved = np.convolve(np.pad(curve - curve[0], reach, mode="edge"), weights / weights.sum(), "valid")
    found: np.ndarray = moved + curve[0]
    return found


def _stretches(curve: np.ndarray, edges: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`(N, 2)` first frames and last ones, exclusive, of what lies above one of `levels`, each once."""
    above = np.zeros((len(levels), len(curve) + 2), np.int8)
    above[:, 1:-1] = curve >= levels[:, None]
    change = np.diff(above, axis=1)
    (level, first), last = np.nonzero(change == 1), np.nonzero(change == -1)[1]
    apart = (level[1:] != level[:-1]) | (edges[first[1:]] - edges[last[:-1]] > _GAP)
    begins, ends = first[np.append(True, apart)], last[np.append(apart, True)]
    # As one number each, first frame before last: rows are sorted many times slower.
    width = len(curve) + 1
    each = np.unique(np.concatenate([first * width + last, begins * width + ends]))
    return np.column_stack([each // width, each % width])


def _ranges(times: np.ndarray, duration: float, spans: ArrayLike) -> np.ndarray:
    """`(M, 2)` the frames on screen in each span."""
    rows = np.asarray(spans, np.float64).reshape(-1, 2)
    if not len(rows):
        return np.zeros((0, 2), np.int64)
    edges = np.append(times, duration)
    # Spans of an index end where frames do, and need no more than to be looked up.
    first, last = np.searchsorted(times, rows[:, 0]), np.searchsorted(edges, rows[:, 1])
    whole = (last < len(edges)) & (first < last) & (first < len(times))
    exact = whole.copy()
    exact[whole] = (edges[first[whole]] == rows[whole, 0]) & (edges[last[whole]] == rows[whole, 1])
    found = np.column_stack([first, last])
    for i in np.flatnonzero(~exact):
        found[i] = frames_in(times, duration, rows[i])
    return found
