"""How far a metric could have moved had the queries, or the videos, been others of the same kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

# Draws kept at once.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Estimate:
    """A mean with the interval it may be trusted to.

    Attributes:
        mean: over the queries.
        low: end of the interval.
        high: other end.
        n: number of queries.
        clusters: number of videos that were drawn as a whole; `n` where queries were drawn one by one.
    """

    mean: float
    low: float
    high: float
    n: int
    clusters: int

    def percent(self) -> str:
        """In percent, e.g. `41.2 [38.9, 43.5], n = 1,000` or `..., n = 1,000 of 120 videos`."""
        of = "" if self.clusters == self.n else f" of {self.clusters:,} videos"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.n:,}{of}"


def interval(
    per_query: np.ndarray,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> tuple[float, float]:
    """Bootstrap percentile interval `(low, high)` of the mean; the same arguments give the same interval.

    Args:
        per_query: `(Q,)`, one value for each query, e.g. of `recall` or `best_ious`.
        confidence: in (0, 1).
        resamples: how many times the queries are drawn again, with replacement.
        seed: of the generator that draws.
        clusters: `(Q,)`, the video of each query: then whole videos are drawn, with all their queries. Queries of one
            video succeed and fail together, so an interval that takes them for independent is too narrow.

    Raises:
        ShapeError: not one row of values, or clusters that do not fit it.
        UsageError: no values, a value that is not finite, or an option out of range.
    """
    found = estimate(per_query, confidence, resamples, seed, clusters)
    return found.low, found.high


def estimate(
    per_query: np.ndarray,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Estimate:
    """The mean with its interval and with what it counts. Arguments and errors as `interval`.

    Of two models on the same queries give the differences, query by query: that takes out what makes a query easy or hard
    for both, and the interval lies above 0 where one is better beyond what the choice of queries explains.
    """
    values = _checked(per_query, confidence, resamples)
    sums, sizes = _by_cluster(values, clusters)
    means = np.concatenate(list(_resampled_means(sums, sizes, resamples, seed)))
    low, high = np.quantile(means, np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    return Estimate(float(values.mean()), float(low), float(high), len(values), len(sums))


def median_interval(
    per_query: np.ndarray,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> tuple[float, float]:
    """Bootstrap percentile interval `(low, high)` of the median, e.g. of ranks. Arguments and errors as `interval`."""
    values = _checked(per_query, confidence, resamples)
    names = np.arange(len(values)) if clusters is None else _names(values, clusters)
    order = np.argsort(values, kind="stable")
    group, count = np.unique(names[order], return_inverse=True)[1], len(np.unique(names))
    draw, step, medians = np.random.default_rng(seed), max(1, _BLOCK // len(values)), []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = draw.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        # How many of a draw's values stand up to each place: the two in the middle are where that passes half.
        upto = times[:, group].cumsum(axis=1)
        total = upto[:, -1:]
        middle = [values[order][(upto > place).argmax(axis=1)] for place in ((total - 1) // 2, total // 2)]
        medians.append((middle[0] + middle[1]) / 2)
    low, high = np.quantile(np.concatenate(medians), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _checked(per_query: np.ndarray, confidence: float, resamples: int) -> np.ndarray:
    values = np.asarray(per_query, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"an interval is of one value for each query, not of an array of shape {values.shape}")
    if not len(values) or not np.isfinite(values).all():
        raise UsageError(f"an interval needs finite values, at least one; got {len(values)}")
    if not 0 < confidence < 1 or resamples < 1:
        raise UsageError(f"confidence {confidence} must lie in (0, 1) and resamples {resamples} be at least 1")
    return values


def _names(values: np.ndarray, clusters: ArrayLike) -> np.ndarray:
    names = np.asarray(clusters)
    if names.shape != values.shape:
        raise ShapeError(f"{len(values)} values need a video each, not clusters of shape {names.shape}")
    return names


def _by_cluster(values: np.ndarray, clusters: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    if clusters is None:
        return values, np.ones(len(values))
    _, inverse = np.unique(_names(values, clusters), return_inverse=True)
    return np.bincount(inverse, weights=values), np.bincount(inverse).astype(np.float64)


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    draw, step = np.random.default_rng(seed), max(1, _BLOCK // len(sums))
    for start in range(0, resamples, step):
        drawn = draw.integers(len(sums), size=(min(step, resamples - start), len(sums)))
        yield sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
