"""Bootstrap confidence intervals of a mean or median over queries, or over clusters of queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

# Number of draws in memory.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Estimate:
    """A mean or median with its confidence interval.

    Attributes:
        value: the mean or median over the queries.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of queries.
        clusters: number of videos that were resampled as clusters; `n` if queries were resampled.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int

    @property
    def interval(self) -> tuple[float, float]:
        """Ends `(low, high)` of the interval."""
        return self.low, self.high

    def percent(self) -> str:
        """Format in percent: `41.2 [38.9, 43.5], n = 1,000`, with ` of 120 videos` if clustered."""
        videos = "" if self.clusters == self.n else f" of {self.clusters:,} videos"
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.n:,}{videos}"


def estimate(
    per_query: np.ndarray,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
    *,
    median: bool = False,
) -> Estimate:
    """Compute the mean or median with its bootstrap percentile interval and sample sizes.

    For a paired comparison of two models, pass the differences query by query. This removes the
    difficulty that a query has for both; if the interval is above 0, one model is better beyond
    the variation that the choice of queries explains.

    The result is deterministic: the same arguments give the same interval.

    Args:
        per_query: `(Q,)`, one value for each query, e.g. a recall, an IoU or a rank.
        confidence: in (0, 1).
        resamples: number of resamples, drawn with replacement.
        seed: of the random generator.
        clusters: `(Q,)`, the video of each query. If given, whole videos are resampled with all
            their queries: queries of one video are correlated, and an interval that treats them as
            independent is too narrow.
        median: estimate the median, not the mean.

    Raises:
        ShapeError: `per_query` is not one-dimensional, or `clusters` has another shape.
        UsageError: no values, a value that is not finite, or an option out of range.
    """
    values = _validate(per_query, confidence, resamples)
    cluster_of, num_clusters = _cluster_rows(values, clusters)
    samples = _samples(num_clusters, len(values) if median else num_clusters, resamples, seed)
    statistics = (_medians if median else _means)(values, cluster_of, samples)
    low, high = np.quantile(
        np.concatenate(list(statistics)), [(1 - confidence) / 2, (1 + confidence) / 2]
    )
    value = np.median(values) if median else values.mean()
    return Estimate(float(value), float(low), float(high), len(values), num_clusters)


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


def _cluster_rows(values: np.ndarray, clusters: ArrayLike | None) -> tuple[np.ndarray, int]:
    """Return the number of the cluster of each value, `(Q,)`, and how many clusters there are."""
    if clusters is None:
        return np.arange(len(values)), len(values)
    cluster_ids = np.asarray(clusters)
    if cluster_ids.shape != values.shape:
        raise ShapeError(
            f"expected one cluster for each of {len(values)} values, got shape {cluster_ids.shape}"
        )
    names, cluster_of = np.unique(cluster_ids, return_inverse=True)
    return cluster_of, len(names)


def _samples(num_clusters: int, row_size: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the clusters of resamples, `(R, C)`, in blocks for which an array of `row_size` numbers
    a resample fits into memory.
    """
    generator, step = np.random.default_rng(seed), max(1, _BLOCK // row_size)
    for start in range(0, resamples, step):
        yield generator.integers(num_clusters, size=(min(step, resamples - start), num_clusters))


def _means(
    values: np.ndarray, cluster_of: np.ndarray, samples: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    sums = np.bincount(cluster_of, weights=values)
    sizes = np.bincount(cluster_of).astype(np.float64)
    for sample in samples:
        yield sums[sample].sum(axis=1) / sizes[sample].sum(axis=1)


def _medians(
    values: np.ndarray, cluster_of: np.ndarray, samples: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    order = np.argsort(values, kind="stable")
    ordered_values, ordered_clusters = values[order], cluster_of[order]
    for sample in samples:
        num_rows, num_clusters = sample.shape
        cells = sample + num_clusters * np.arange(num_rows)[:, None]
        counts = np.bincount(cells.ravel(), minlength=num_rows * num_clusters).reshape(
            num_rows, num_clusters
        )
        # Number of a resample's values up to each rank; the median lies where it passes one half.
        cumulative = counts[:, ordered_clusters].cumsum(axis=1)
        total = cumulative[:, -1:]
        middle_values = [
            ordered_values[(cumulative > rank).argmax(axis=1)]
            for rank in ((total - 1) // 2, total // 2)
        ]
        yield (middle_values[0] + middle_values[1]) / 2
