"""How far a metric could have moved had the queries been others of the same kind."""

from __future__ import annotations

import numpy as np

from vla.errors import ShapeError, UsageError


def interval(
    per_query: np.ndarray, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval `(low, high)` of the mean; the same arguments give the same interval.

    Args:
        per_query: `(Q,)`, one value for each query, e.g. of `recall` or `best_ious`.
        confidence: in (0, 1).
        resamples: how many times the queries are drawn again, with replacement.
        seed: of the generator that draws.

    Raises:
        ShapeError: not one row of values.
        UsageError: no values, a value that is not finite, or an option out of range.
    """
    values = np.asarray(per_query, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"an interval is of one value for each query, not of an array of shape {values.shape}")
    if not len(values) or not np.isfinite(values).all():
        raise UsageError(f"an interval needs finite values, at least one; got {len(values)}")
    if not 0 < confidence < 1 or resamples < 1:
        raise UsageError(f"confidence {confidence} must lie in (0, 1) and resamples {resamples} be at least 1")
    draw = np.random.default_rng(seed)
    means = [values[draw.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
