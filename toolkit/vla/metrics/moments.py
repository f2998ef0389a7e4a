"""Moment metrics: how often the span that was found is the span that was meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.errors import ShapeError, UsageError

RECALLS = ((1, 0.3), (1, 0.5), (1, 0.7), (5, 0.5), (5, 0.7))
"""`(among the first so many predictions, IoU to reach)`, as Charades-STA and ActivityNet Captions are reported."""


def best_ious(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Compute the best IoU that any of a query's first `n` predictions has with any true span, `(Q,)`; 0 without predictions.

    Args:
        predictions: for every query `(N, 3)`, rows of start, end (seconds) and score, best first. The order decides, as
            in the official scripts; the score is not read.
        truths: for every query `(M, 2)` seconds, M at least 1.
        n: at least 1.

    Raises:
        ShapeError: predictions and truths are not as many, or an array has other columns.
        UsageError: no queries, a query without a true span, a malformed span, or fewer than 1 prediction to look at.
    """
    check_pairs(predictions, truths)
    if n < 1:
        raise UsageError(f"recall is of the first 1 or more predictions, not of {n}")
    first = padded_predictions([check_predictions(rows)[:n] for rows in predictions])
    return overlaps(first[:, :, :2], padded(truths)).max(axis=(1, 2), initial=0.0)


def check_pairs(predictions: Sequence[object], truths: Sequence[np.ndarray]) -> None:
    """Refuse what is not predictions of as many queries as have true spans, at least one span each.

    Raises:
        ShapeError: predictions and truths are not as many.
        UsageError: no queries, or a query without a true span.
    """
    if len(predictions) != len(truths):
        raise ShapeError(f"{len(predictions)} queries have predictions but {len(truths)} have true spans")
    lost = sum(len(spans) == 0 for spans in truths)
    if lost or not len(truths):
        raise UsageError(f"{lost} of {len(truths)} queries have no true span: leave them out, or give theirs")


def check_predictions(predicted: np.ndarray, columns: int = 3) -> np.ndarray:
    """The predictions of one query as `(N, columns)` float64; `(0, columns)` for an empty list.

    Raises:
        ShapeError: rows of another length.
        UsageError: a number that is not finite, or a span that ends before it starts. The span is columns -3 and -2.
    """
    rows = np.asarray(predicted, dtype=np.float64)
    rows = rows.reshape(0, columns) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != columns:
        wanted = "(start, end, score)" if columns == 3 else "(video, start, end, score)"
        raise ShapeError(f"predictions are rows of {wanted}, not an array of shape {rows.shape}")
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1) | (rows[:, -3] > rows[:, -2]))
    if len(wrong):
        span, score = rows[wrong[0], -3:-1].tolist(), rows[wrong[0], -1]
        raise UsageError(
            f"prediction {wrong[0]} has span {span} and score {score}: finite, and no end before its start"
        )
    return rows


def padded(truths: Sequence[np.ndarray]) -> np.ndarray:
    """`(Q, M, 2)` seconds: every query's true spans, in order; NaN where a query has fewer than the most.

    Raises:
        ShapeError: not rows of two numbers.
        UsageError: a span that is not finite, or ends before it starts.
    """
    rows = [np.asarray(spans, dtype=np.float64) for spans in truths]
    for number, spans in enumerate(rows):
        if spans.size and (spans.ndim != 2 or spans.shape[1] != 2):
            raise ShapeError(f"the true spans of query {number} are rows of (start, end), not of shape {spans.shape}")
    filled = _filled([spans.reshape(-1, 2) for spans in rows], 2)
    wrong = filled[np.isinf(filled).any(axis=-1) | (filled[..., 0] > filled[..., 1])]
    if len(wrong) or any(np.isnan(spans).any() for spans in rows):
        example = wrong[0].tolist() if len(wrong) else "NaN"
        raise UsageError(f"a true span must be finite and not end before it starts, not {example}")
    return filled


def padded_predictions(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """`(Q, N, 3)`: every query's rows of `check_predictions`, in order; NaN where a query has fewer than the most."""
    return _filled(predictions, 3)


def overlaps(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """IoU of every prediction with every true span of its query, as `vla.spans.iou` has it; 0 where one is missing.

    Args:
        predicted: `(Q, N, 2)` seconds, NaN where there is none.
        true: `(Q, M, 2)` seconds, NaN where there is none.

    Returns:
        `(Q, N, M)` in [0, 1].
    """
    start, end = predicted[:, :, None, 0], predicted[:, :, None, 1]
    low, high = true[:, None, :, 0], true[:, None, :, 1]
    shared = np.maximum(np.minimum(end, high) - np.maximum(start, low), 0.0)
    covered = (end - start) + (high - low) - shared
    return np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)


def _filled(rows: Sequence[np.ndarray], columns: int) -> np.ndarray:
    counts = np.array([len(r) for r in rows], dtype=np.int64)
    filled = np.full((len(rows), counts.max(initial=0), columns), np.nan)
    filled[np.arange(filled.shape[1]) < counts[:, None]] = np.concatenate([np.zeros((0, columns)), *rows])
    return filled
