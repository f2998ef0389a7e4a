"""When in a video: how well spans stand out in the curve of a query's cosines with the frames. Nothing here is trained."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.retrieval.duration_prior import ANY_DURATION, DurationRange
from vla.spans import frames_in

_SMOOTH = 0.25
"""Standard deviation, in seconds, of the Gaussian that the curve is smoothed with."""
_LEVEL = 0.5
"""How far the level that counts as shown lies from the curve's background (0) to its peak (1)."""
_LENGTH = 0.5
"""Power of a span's seconds that its excess is divided by; 0 prefers long spans, 1 brief ones. `tests/benchmarks/localisers.py
choose` measures these numbers."""
_LEAST = 1e-9
_BOUNDS = 500


class SimilarityCurve:
    """The curve of one query in one video, with a level above which its frames count as showing it.

    The level lies half way between the curve's background and its peak. The background is the median of what lies in the lower
    half of the curve's range: the median of all would lie within a moment that takes most of a short video.

    Args:
        cosines: `(T,)`, one for each frame.
        timestamps_seconds: `(T,)` when each frame is shown, non-decreasing; it is on screen until the next one.
        duration_seconds: when the last frame ends.

    Raises:
        ShapeError: cosines and timestamps disagree, or there is no frame.
        UsageError: a value is not finite, or timestamps decrease.
    """

    def __init__(self, cosines: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float) -> None:
        values, times = np.asarray(cosines, np.float64), np.asarray(timestamps_seconds, np.float64)
        if values.ndim != 1 or values.shape != times.shape or not len(values):
            raise ShapeError(f"a curve has one value for each frame, not {values.shape} for timestamps {times.shape}")
        edges = np.append(times, duration_seconds)
        if not np.isfinite(values).all() or not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
            raise UsageError("a curve is finite, and its times ascend to the end")
        # Frames without time on screen, of which the last is shown, count for nothing.
        shown = np.diff(edges) > 0 if edges[-1] > edges[0] else np.arange(len(times)) == len(times) - 1
        self._times, self._edges = times[shown], np.append(times[shown], duration_seconds)
        smoothed = smooth(values[shown], self._times)
        above = smoothed - contrast_threshold(smoothed, float(smoothed.max()))
        self._gained = np.append(0.0, np.cumsum(np.diff(self._edges) * above))

    def contrast(self, spans: ArrayLike) -> np.ndarray:
        """`(N,)`: how well each of `spans` `(N, 2)`, in seconds, stands out.

        What the smoothed curve exceeds the level by is integrated over the span, and divided by the root of its length: by that
        much the integral of noise would spread, so this is what a matched filter says of a raised stretch of a noisy curve. A
        span that is too short lacks excess, one that is too long takes in what is below the level: both ends are decided.
        (Static scores of zero-shot temporal grounding compare a span with all that is outside of it: Zheng et al., ECCV 2024.)
        Adding a number to the curve or a shift in time changes nothing, and of a flat curve all is 0.
        """
        first, last = _ranges(self._times, float(self._edges[-1]), spans).T
        return self._of(first, last)

    def refine_bounds(self, span: ArrayLike, gain: float, lasting: DurationRange = ANY_DURATION) -> np.ndarray:
        """`(2,)` the bounds of frames, each at most half the length of `span` `(2,)` away, between which `contrast` is highest.

        Of those that are apart by `lasting`, in seconds. `span` itself, brought to bounds of frames, where it is one of them and
        gains less than `gain`, or where there are none. Of a span so long that there would be more than 500 bounds at either
        end, some of them are tried.
        """
        times, edges = self._times, self._edges
        first, last = _ranges(times, float(edges[-1]), span)[0]
        reach = (edges[last] - edges[first]) / 2 + _LEAST
        firsts = _some(np.flatnonzero(np.abs(times - edges[first]) <= reach))
        lasts = _some(np.flatnonzero(np.abs(edges - edges[last]) <= reach))
        is_right = (firsts[:, None] < lasts) & self._last(firsts[:, None], lasts[None], lasting)
        found = np.where(is_right, self._of(firsts[:, None], lasts[None]), -np.inf)
        own = self._of(first, last) if self._last(first, last, lasting) else -np.inf
        if is_right.any() and found.max() - own >= max(gain, _LEAST):
            row, column = np.unravel_index(found.argmax(), found.shape)
            first, last = firsts[row], lasts[column]
        return np.array([edges[first], edges[last]])

    def _last(self, first: np.ndarray, last: np.ndarray, lasting: DurationRange) -> np.ndarray:
        seconds = self._edges[last] - self._edges[first]
        found: np.ndarray = (seconds >= lasting[0] - _LEAST) & (seconds <= lasting[1] + _LEAST)
        return found

    def _of(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        seconds = np.maximum(self._edges[last] - self._edges[first], _LEAST)
        found = (self._gained[last] - self._gained[first]) / seconds**_LENGTH
        # Of a flat curve only rounding is left.
        return np.where(np.abs(found) > _LEAST, found, 0.0)


def _some(places: np.ndarray) -> np.ndarray:
    """At most `_BOUNDS` of `places`, evenly: all pairs of bounds are compared."""
    return places[:: max(1, -(-len(places) // _BOUNDS))]


def contrast_threshold(smoothed: np.ndarray, peak: float) -> float:
    """What counts as shown where the curve comes up to `peak`: so far from its background, as `localise` has it, to that."""
    lowest, highest = float(smoothed.min()), float(smoothed.max())
    background = float(np.median(smoothed[smoothed <= (lowest + highest) / 2]))
    return background + _LEVEL * (peak - background)


def smooth(curve: np.ndarray, timestamps_seconds: np.ndarray) -> np.ndarray:
    """`(T,)` the curve through a Gaussian of a quarter second, counted in frames of the median distance; ends are carried on."""
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
