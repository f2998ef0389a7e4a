"""Similarity curve of a query over the frames of a video, and the contrast of spans in it.

Training-free.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.retrieval.duration_prior import ANY_DURATION, DurationRange
from vla.spans import frames_in

_SMOOTHING_SECONDS = 0.25
"""Standard deviation of the Gaussian filter of the curve."""
_THRESHOLD = 0.5
"""Position of the contrast threshold between the baseline of the curve (0) and its peak (1)."""
_LENGTH_POWER = 0.5
"""Power of the duration that the excess of a span is divided by; 0 prefers long spans, 1 short
ones. `tests/benchmarks/localisers.py choose` measures these numbers."""
_EPSILON = 1e-9
_MAX_BOUNDS = 500


class SimilarityCurve:
    """Smoothed similarity curve of one query in one video, with a contrast threshold.

    The threshold lies half way between the baseline of the curve and its peak. The baseline is the
    median of the values in the lower half of the range of the curve: the median of all values would
    lie within a moment that covers most of a short video.

    Args:
        cosines: `(T,)`, one for each frame.
        timestamps_seconds: `(T,)` start of each frame, non-decreasing; it is visible until the next
            one starts.
        duration_seconds: end of the last frame.

    Raises:
        ShapeError: the numbers of cosines and timestamps differ, or there is no frame.
        UsageError: a value is not finite, or timestamps decrease.
    """

    def __init__(
        self, cosines: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float
    ) -> None:
        values, times = np.asarray(cosines, np.float64), np.asarray(timestamps_seconds, np.float64)
        if values.ndim != 1 or values.shape != times.shape or not len(values):
            raise ShapeError(
                f"a curve has one value for each frame, not {values.shape} for timestamps "
                f"{times.shape}"
            )
        edges = np.append(times, duration_seconds)
        if (
            not np.isfinite(values).all()
            or not np.isfinite(edges).all()
            or (np.diff(edges) < 0).any()
        ):
            raise UsageError(
                "the values of a curve must be finite, and its times must not decrease"
            )
        # Frames of zero duration are ignored; if all are, the last one is kept.
        is_visible = (
            np.diff(edges) > 0 if edges[-1] > edges[0] else np.arange(len(times)) == len(times) - 1
        )
        self._times, self._edges = times[is_visible], np.append(times[is_visible], duration_seconds)
        smooth_values = smooth(values[is_visible], self._times)
        excess = smooth_values - contrast_threshold(smooth_values, float(smooth_values.max()))
        self._integral = np.append(0.0, np.cumsum(np.diff(self._edges) * excess))

    def contrast(self, spans: ArrayLike) -> np.ndarray:
        """Return `(N,)` the contrast of `spans` `(N, 2)`, in seconds.

        The contrast is the integral over the span of the smoothed curve minus the threshold,
        divided by the square root of the duration. The integral of noise grows with that root, so
        the contrast is the response of a matched filter to a raised stretch of a noisy curve. A
        span that is too short lacks excess, a span that is too long includes values below the
        threshold: both bounds are determined. (Static scores of zero-shot temporal grounding
        compare a span with all that is outside of it: Zheng et al., ECCV 2024.) An offset of the
        curve or of its times changes nothing; a flat curve has a contrast of 0.
        """
        first, last = _frame_ranges(self._times, float(self._edges[-1]), spans).T
        return self._contrast(first, last)

    def refine_bounds(
        self, span: ArrayLike, gain: float, duration_range: DurationRange = ANY_DURATION
    ) -> np.ndarray:
        """Return `(2,)` seconds: the bounds of frames near `span` `(2,)` with the highest contrast.

        Each bound moves by at most half the duration of the span, and the result lies in
        `duration_range`. The span itself, snapped to bounds of frames, is returned if it lies in
        the range and the contrast would grow by less than `gain`, or if there are no other bounds.
        With more than 500 candidates for a bound, an evenly spaced subset is compared.
        """
        times, edges = self._times, self._edges
        first, last = _frame_ranges(times, float(edges[-1]), span)[0]
        reach = (edges[last] - edges[first]) / 2 + _EPSILON
        firsts = _subsample(np.flatnonzero(np.abs(times - edges[first]) <= reach))
        lasts = _subsample(np.flatnonzero(np.abs(edges - edges[last]) <= reach))
        is_valid = (firsts[:, None] < lasts) & self._is_in_range(
            firsts[:, None], lasts[None], duration_range
        )
        contrasts = np.where(is_valid, self._contrast(firsts[:, None], lasts[None]), -np.inf)
        own = (
            self._contrast(first, last)
            if self._is_in_range(first, last, duration_range)
            else -np.inf
        )
        if is_valid.any() and contrasts.max() - own >= max(gain, _EPSILON):
            row, column = np.unravel_index(contrasts.argmax(), contrasts.shape)
            first, last = firsts[row], lasts[column]
        return np.array([edges[first], edges[last]])

    def _is_in_range(
        self, first: np.ndarray, last: np.ndarray, duration_range: DurationRange
    ) -> np.ndarray:
        seconds = self._edges[last] - self._edges[first]
        in_range: np.ndarray = (seconds >= duration_range[0] - _EPSILON) & (
            seconds <= duration_range[1] + _EPSILON
        )
        return in_range

    def _contrast(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        seconds = np.maximum(self._edges[last] - self._edges[first], _EPSILON)
        contrasts = (self._integral[last] - self._integral[first]) / seconds**_LENGTH_POWER
        # A flat curve leaves nothing but rounding errors.
        return np.where(np.abs(contrasts) > _EPSILON, contrasts, 0.0)


def _subsample(positions: np.ndarray) -> np.ndarray:
    """Return at most `_MAX_BOUNDS` of `positions`, evenly spaced.

    All pairs of bounds are compared.
    """
    return positions[:: max(1, -(-len(positions) // _MAX_BOUNDS))]


def contrast_threshold(smooth_values: np.ndarray, peak: float) -> float:
    """Return the contrast threshold of a smoothed curve for a moment that rises to `peak`.

    See `SimilarityCurve`.
    """
    lowest, highest = float(smooth_values.min()), float(smooth_values.max())
    baseline = float(np.median(smooth_values[smooth_values <= (lowest + highest) / 2]))
    return baseline + _THRESHOLD * (peak - baseline)


def smooth(curve: np.ndarray, timestamps_seconds: np.ndarray) -> np.ndarray:
    """Return the curve `(T,)` after a Gaussian filter of 0.25 s, in steps of the median frame
    distance; edges are padded.
    """
    steps = np.diff(timestamps_seconds)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    if not step or len(curve) < 2:
        return curve
    reach = min(int(np.ceil(3 * _SMOOTHING_SECONDS / step)), len(curve))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / _SMOOTHING_SECONDS) ** 2)
    # Filtering differences to the first value leaves a constant curve unchanged to the last bit.
    differences = np.convolve(
        np.pad(curve - curve[0], reach, mode="edge"), weights / weights.sum(), "valid"
    )
    values: np.ndarray = differences + curve[0]
    return values


def _frame_ranges(times: np.ndarray, duration: float, spans: ArrayLike) -> np.ndarray:
    """Return `(M, 2)` first and last frames, exclusive, of each span."""
    rows = np.asarray(spans, np.float64).reshape(-1, 2)
    if not len(rows):
        return np.zeros((0, 2), np.int64)
    edges = np.append(times, duration)
    # Spans of an index end at bounds of frames: a lookup is enough for them.
    first, last = np.searchsorted(times, rows[:, 0]), np.searchsorted(edges, rows[:, 1])
    is_inside = (last < len(edges)) & (first < last) & (first < len(times))
    is_exact = is_inside.copy()
    is_exact[is_inside] = (edges[first[is_inside]] == rows[is_inside, 0]) & (
        edges[last[is_inside]] == rows[is_inside, 1]
    )
    ranges = np.column_stack([first, last])
    for i in np.flatnonzero(~is_exact):
        ranges[i] = frames_in(times, duration, rows[i])
    return ranges
