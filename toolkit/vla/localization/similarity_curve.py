"""Similarity curve of a query over the frames of a video, and the moments where it is high.

Training-free.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.localization.duration_range import ANY_DURATION, DurationRange
from vla.localization.range_maximum import range_argmax

_SMOOTHING_SECONDS = 0.25
"""Standard deviation of the Gaussian filter of the curve."""
_LOWEST_THRESHOLD, _HIGHEST_THRESHOLD = 0.25, 0.5
"""Range of the threshold, as a share of the way from the mean of the curve to its peak."""
_VARIANCE_WEIGHT = 0.75
"""Share of the way per share of the variance that a single moment explains.

`tests/benchmarks/real_search.py --parts constants` shows each at half and at twice its value."""
_EPSILON = 1e-9


class SimilarityCurve:
    """Smoothed similarity curve of one query in one video.

    A moment is a range of frames with a large *excess*: the integral of the curve over a threshold.
    The threshold lies between a quarter and a half of the way from the mean of the curve to its
    peak. It follows from the curve: where a single moment explains the variance of the curve, as in
    a cut from one scene to another, half the way separates them best; where it does not, as with
    noise or with a scene that changes slowly, a lower threshold does.

    Args:
        similarities: `(T,)`, one for each frame.
        timestamps_seconds: `(T,)` start of each frame, non-decreasing; it is visible until the next
            one starts.
        duration_seconds: end of the last frame.

    Attributes:
        mean: mean of the curve over time.
        rise: peak of the curve minus its mean, not negative.

    Raises:
        ShapeError: the numbers of similarities and timestamps differ, or there is no frame.
        UsageError: a value is not finite, or timestamps decrease.
    """

    def __init__(
        self, similarities: ArrayLike, timestamps_seconds: ArrayLike, duration_seconds: float
    ) -> None:
        values = np.asarray(similarities, np.float64)
        times = np.asarray(timestamps_seconds, np.float64)
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
        times = times[is_visible]
        self._edges = np.append(times, duration_seconds)
        self._seconds = np.maximum(np.diff(self._edges), _EPSILON)
        self._values = smooth(values[is_visible], times)
        self.mean = float(np.average(self._values, weights=self._seconds))
        self.rise = max(0.0, float(self._values.max()) - self.mean)

    def moments(
        self, count: int, duration_range: DurationRange = ANY_DURATION
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return at most `count` disjoint moments, those with the largest excess first.

        Without a duration range, the bounds of each moment are then moved inwards to where the curve
        crosses half the way from its mean to the mean of the moment. The whole video is returned if
        the curve is flat. The range is ignored if no range of frames lies in it.

        Args:
            count: at least 1.
            duration_range: minimum and maximum duration in seconds.

        Returns:
            `(N, 2)` seconds, and `(N,)` the excess of each as a share of the largest, in [0, 1].
        """
        whole = np.array([[self._edges[0], self._edges[-1]]])
        if self.rise <= _EPSILON:
            return whole, np.ones(1)
        integral = self._integral(self.mean + self._threshold() * self.rise)
        is_limited = duration_range != ANY_DURATION
        ranges = self._largest(integral, count, duration_range)
        if not ranges and is_limited:
            return self.moments(count)
        bounds = [
            (first, last) if is_limited else self._shrink(first, last) for _, first, last in ranges
        ]
        highest = max(_EPSILON, ranges[0][0])
        shares = np.clip([excess / highest for excess, _, _ in ranges], 0.0, 1.0)
        shares[0] = 1.0
        return self._edges[np.array(bounds)], shares

    def shares(self, spans: ArrayLike, duration_range: DurationRange = ANY_DURATION) -> np.ndarray:
        """Return `(N,)` the excess of `spans` `(N, 2)` as a share of that of the best moment, in
        [0, 1], over the lowest threshold: bounds that come from elsewhere need not be tight.

        Args:
            spans: seconds.
            duration_range: minimum and maximum duration of the best moment in seconds.
        """
        bounds = np.asarray(spans, np.float64).reshape(-1, 2)
        if self.rise <= _EPSILON:
            return np.ones(len(bounds))
        integral = self._integral(self.mean + _LOWEST_THRESHOLD * self.rise)
        best = self._largest(integral, 1, duration_range) or self._largest(
            integral, 1, ANY_DURATION
        )
        first, last = np.interp(bounds, self._edges, integral).T
        shares: np.ndarray = np.clip((last - first) / max(_EPSILON, best[0][0]), 0.0, 1.0)
        return shares

    def contrasts(self, spans: ArrayLike) -> np.ndarray:
        """Return `(N,)` the excess of `spans` `(N, 2)`, in seconds, over the mean of the curve, by the
        root of their durations: how surely the curve is higher inside than outside if it is noisy.
        """
        bounds = np.asarray(spans, np.float64).reshape(-1, 2)
        first, last = np.interp(bounds, self._edges, self._integral(self.mean)).T
        contrasts: np.ndarray = (last - first) / np.sqrt(
            np.maximum(bounds[:, 1] - bounds[:, 0], _EPSILON)
        )
        return contrasts

    def _threshold(self) -> float:
        """Return the threshold as a share of the way from the mean to the peak.

        It is proportional to the share of the variance that the largest moment above the lowest
        threshold explains (the coefficient of determination of a curve with two levels).
        """
        variance = float(np.average((self._values - self.mean) ** 2, weights=self._seconds))
        integral = self._integral(self.mean + _LOWEST_THRESHOLD * self.rise)
        _, first, last = self._largest(integral, 1, ANY_DURATION)[0]
        inside, total = self._duration(first, last), self._duration(0, len(self._values))
        level = self._level(first, last) - self.mean
        explained_share = (
            level**2 * inside / max(total - inside, _EPSILON) / max(variance, _EPSILON**2)
        )
        share: float = np.clip(
            _VARIANCE_WEIGHT * explained_share, _LOWEST_THRESHOLD, _HIGHEST_THRESHOLD
        )
        return share

    def _shrink(self, first: int, last: int) -> tuple[int, int]:
        threshold = (self.mean + self._level(first, last)) / 2
        integral = self._integral(threshold)
        best = self._best(integral, first, last, ANY_DURATION)
        return (first, last) if best is None or best[0] <= 0 else best[1:]

    def _largest(
        self, integral: np.ndarray, count: int, duration_range: DurationRange
    ) -> list[tuple[float, int, int]]:
        """Return excess, first and last frame (exclusive) of disjoint ranges, largest first.

        All but the first have a positive excess. Beside a range with the largest excess, the rest
        is searched on both sides (all maximal scoring subsequences: Ruzzo and Tompa 1999).
        """
        heap: list[tuple[float, int, int, int, int]] = []

        def push(start: int, end: int, *, is_first: bool = False) -> None:
            best = self._best(integral, start, end, duration_range)
            if best is not None and (is_first or best[0] > _EPSILON):
                heapq.heappush(heap, (-best[0], best[1], best[2], start, end))

        push(0, len(self._values), is_first=True)
        ranges: list[tuple[float, int, int]] = []
        while heap and len(ranges) < count:
            excess, first, last, start, end = heapq.heappop(heap)
            ranges.append((-excess, first, last))
            push(start, first)
            push(last, end)
        return ranges

    def _best(
        self, integral: np.ndarray, start: int, end: int, duration_range: DurationRange
    ) -> tuple[float, int, int] | None:
        """Return excess, first and last frame of the range within `[start, end)` with the largest
        excess; None if none has an allowed duration.
        """
        if start >= end:
            return None
        values = integral[start : end + 1]
        if duration_range == ANY_DURATION:
            # The best range to an edge begins at the edge before it with the lowest integral.
            excesses = values[1:] - np.minimum.accumulate(values[:-1])
            row = int(excesses.argmax())
            return float(excesses[row]), start + int(values[: row + 1].argmin()), start + row + 1
        edges = self._edges[start : end + 1]
        lasts = np.arange(1, len(edges))
        shortest, longest = duration_range
        earliest = np.searchsorted(edges, edges[lasts] - longest - _EPSILON)
        latest = np.searchsorted(edges, edges[lasts] - shortest + _EPSILON, side="right")
        firsts = range_argmax(-values, earliest, np.minimum(latest, lasts))
        is_allowed = firsts >= 0
        if not is_allowed.any():
            return None
        excesses = np.where(is_allowed, values[lasts] - values[firsts], -np.inf)
        row = int(excesses.argmax())
        return float(excesses[row]), start + int(firsts[row]), start + int(lasts[row])

    def _integral(self, threshold: float) -> np.ndarray:
        return np.append(0.0, np.cumsum(self._seconds * (self._values - threshold)))

    def _duration(self, first: int, last: int) -> float:
        return float(self._seconds[first:last].sum())

    def _level(self, first: int, last: int) -> float:
        return float(np.average(self._values[first:last], weights=self._seconds[first:last]))


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
