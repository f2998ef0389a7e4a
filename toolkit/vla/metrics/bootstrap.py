"""Bootstrap confidence intervals of a mean or median over queries, or over clusters of queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

# Number of draws in memory.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes:
        mean: over the queries.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of queries.
        clusters: number of videos that were resampled as clusters; `n` if queries were resampled.
    """

    mean: float
    low: float
    high: float
    n: int
    clusters: int

    def percent(self) -> str:
        """Format in percent: `41.2 [38.9, 43.5], n = 1,000`, with ` of 120 videos` if clustered."""
        videos = "" if self.clusters == self.n else f" of {self.clusters:,} videos"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.n:,}{videos}"


def interval(
    per_query: np.ndarray,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> tuple[float, float]:
    """Compute the bootstrap percentile interval `(low, high)` of the mean.

    The result is deterministic: the same arguments give the same interval.

    Args:
        per_query: `(Q,)`, one value for each query, e.g. a recall or an IoU.
        confidence: in (0, 1).
        resamples: number of resamples, drawn with replacement.
        seed: of the random generator.
        clusters: `(Q,)`, the video of each query. If given, whole videos are resampled with all
            their queries: queries of one video are correlated, and an interval that treats them as
            independent is too narrow.

    Raises:
        ShapeError: `per_query` is not one-dimensional, or `clusters` has another shape.
        UsageError: no values, a value that is not finite, or an option out of range.
    """
    result = estimate(per_query, confidence, resamples, seed, clusters)
    return result.low, result.high


def estimate(
    per_query: np.ndarray,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Estimate:
    """Compute the mean with its bootstrap interval and sample sizes.

    For a paired comparison of two models, pass the differences query by query. This removes the
    difficulty that a query has for both; if the interval is above 0, one model is better beyond
    the variation that the choice of queries explains. Arguments and errors as in `interval`.
    """
    values = _validate(per_query, confidence, resamples)
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
    """Compute the bootstrap percentile interval `(low, high)` of the median, e.g. of ranks.

    Arguments and errors as in `interval`.
    """
    values = _validate(per_query, confidence, resamples)
    cluster_ids = np.arange(len(values)) if clusters is None else _cluster_ids(values, clusters)
    order = np.argsort(values, kind="stable")
    cluster_of, num_clusters = (
        np.unique(cluster_ids[order], return_inverse=True)[1],
        len(np.unique(cluster_ids)),
    )
    generator, step, medians = np.random.default_rng(seed), max(1, _BLOCK // len(values)), []
    for start in range(0, resamples, step):
        num_rows = min(step, resamples - start)
        sample = (
            generator.integers(num_clusters, size=(num_rows, num_clusters))
            + num_clusters * np.arange(num_rows)[:, None]
        )
        counts = np.bincount(sample.ravel(), minlength=num_rows * num_clusters).reshape(
            num_rows, num_clusters
        )
        # Number of a resample's values up to each rank; the median lies where it passes one half.
        cumulative = counts[:, cluster_of].cumsum(axis=1)
        total = cumulative[:, -1:]
        middle_values = [
            values[order][(cumulative > rank).argmax(axis=1)]
            for rank in ((total - 1) // 2, total // 2)
        ]
        medians.append((middle_values[0] + middle_values[1]) / 2)
    low, high = np.quantile(np.concatenate(medians), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _validate(per_query: np.ndarray, confidence: float, resamples: int) -> np.ndarray:
    values = np.asarray(per_query, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"expected one value for each query, got an array of shape {values.shape}")
    if not len(values) or not np.isfinite(values).all():
        raise UsageError(f"expected at least one value, all finite; got {len(values)} values")
    if not 0 < confidence < 1 or resamples < 1:
        raise UsageError(
            f"invalid confidence {confidence} or resamples {resamples}: "
            "confidence must lie in (0, 1), and resamples must be at least 1"
        )
    return values


def _cluster_ids(values: np.ndarray, clusters: ArrayLike) -> np.ndarray:
    cluster_ids = np.asarray(clusters)
    if cluster_ids.shape != values.shape:
        raise ShapeError(
            f"expected one cluster for each of {len(values)} values, got shape {cluster_ids.shape}"
        )
    return cluster_ids


def _by_cluster(values: np.ndarray, clusters: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    if clusters is None:
        return values, np.ones(len(values))
    _, inverse = np.unique(_cluster_ids(values, clusters), return_inverse=True)
    return np.bincount(inverse, weights=values), np.bincount(inverse).astype(np.float64)


def _resampled_means(
    sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    generator, step = np.random.default_rng(seed), max(1, _BLOCK // len(sums))
    for start in range(0, resamples, step):
        sample = generator.integers(len(sums), size=(min(step, resamples - start), len(sums)))
        yield sums[sample].sum(axis=1) / sizes[sample].sum(axis=1)
