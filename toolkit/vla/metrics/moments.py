"""Moment localization metrics: IoU of predicted spans with true spans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.errors import ShapeError, UsageError

RECALLS = ((1, 0.3), (1, 0.5), (1, 0.7), (5, 0.5), (5, 0.7))
"""`(n, IoU threshold)` of R-n@IoU, as reported for Charades-STA and ActivityNet Captions."""


def best_ious(
    predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], n: int
) -> np.ndarray:
    """Compute the best IoU of each query's first `n` predictions with any true span.

    Args:
        predictions: for each query `(N, 3)`, rows of start, end (seconds) and score, best first.
            The order decides, as in the official scripts; the score is not read.
        truths: for each query `(M, 2)` seconds, M at least 1.
        n: at least 1.

    Returns:
        `(Q,)` in [0, 1]; 0 for a query without predictions.

    Raises:
        ShapeError: predictions and truths differ in number, or an array has other columns.
        UsageError: no queries, a query without a true span, a malformed span, or n < 1.
    """
    check_pairs(predictions, truths)
    if n < 1:
        raise UsageError(f"invalid number of predictions {n}: recall needs at least 1")
    first = pad_predictions([check_predictions(rows)[:n] for rows in predictions])
    return pairwise_iou(first[:, :, :2], pad_spans(truths)).max(axis=(1, 2), initial=0.0)


def check_pairs(predictions: Sequence[object], truths: Sequence[np.ndarray]) -> None:
    """Raise unless there are queries, each with predictions and at least one true span.

    Raises:
        ShapeError: predictions and truths differ in number.
        UsageError: no queries, or a query without a true span.
    """
    if len(predictions) != len(truths):
        raise ShapeError(
            f"predictions of {len(predictions)} queries, but true spans of {len(truths)}"
        )
    num_missing = sum(len(spans) == 0 for spans in truths)
    if num_missing or not len(truths):
        raise UsageError(
            f"{num_missing} of {len(truths)} queries have no true span: remove them or add their "
            f"spans"
        )


def check_predictions(predictions: np.ndarray, columns: int = 3) -> np.ndarray:
    """Return one query's predictions as `(N, columns)` float64; `(0, columns)` for an empty list.

    Raises:
        ShapeError: rows of another length.
        UsageError: a number that is not finite, or a span (columns -3 and -2) that ends before it
            starts.
    """
    rows = np.asarray(predictions, dtype=np.float64)
    rows = rows.reshape(0, columns) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != columns:
        columns_text = "(start, end, score)" if columns == 3 else "(video, start, end, score)"
        raise ShapeError(
            f"expected predictions as rows of {columns_text}, got an array of shape {rows.shape}"
        )
    invalid = np.flatnonzero(~np.isfinite(rows).all(axis=1) | (rows[:, -3] > rows[:, -2]))
    if len(invalid):
        span, score = rows[invalid[0], -3:-1].tolist(), rows[invalid[0], -1]
        raise UsageError(
            f"invalid prediction {invalid[0]}, span {span} and score {score}: "
            "numbers must be finite, and a span must not end before it starts"
        )
    return rows


def pad_spans(truths: Sequence[np.ndarray]) -> np.ndarray:
    """Return the true spans of all queries as `(Q, M, 2)` seconds, in order, padded with NaN.

    Raises:
        ShapeError: rows that are not two numbers.
        UsageError: a span that is not finite, or ends before it starts.
    """
    rows = [np.asarray(spans, dtype=np.float64) for spans in truths]
    for number, spans in enumerate(rows):
        if spans.size and (spans.ndim != 2 or spans.shape[1] != 2):
            raise ShapeError(
                f"expected true spans of query {number} as rows of (start, end), got shape "
                f"{spans.shape}"
            )
    padded = _pad([spans.reshape(-1, 2) for spans in rows], 2)
    invalid = padded[np.isinf(padded).any(axis=-1) | (padded[..., 0] > padded[..., 1])]
    if len(invalid) or any(np.isnan(spans).any() for spans in rows):
        example = invalid[0].tolist() if len(invalid) else "NaN"
        raise UsageError(
            f"invalid true span {example}: it must be finite and not end before it starts"
        )
    return padded


def pad_predictions(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rows of `check_predictions` as `(Q, N, 3)`, in order, padded with NaN."""
    return _pad(predictions, 3)


def pairwise_iou(predictions: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the IoU of every prediction with every true span of its query, as in `vla.spans.iou`.

    Args:
        predictions: `(Q, N, 2)` seconds, padded with NaN.
        true: `(Q, M, 2)` seconds, padded with NaN.

    Returns:
        `(Q, N, M)` in [0, 1]; 0 for padding.
    """
    start, end = predictions[:, :, None, 0], predictions[:, :, None, 1]
    low, high = true[:, None, :, 0], true[:, None, :, 1]
    intersection = np.maximum(np.minimum(end, high) - np.maximum(start, low), 0.0)
    union = (end - start) + (high - low) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def _pad(rows: Sequence[np.ndarray], columns: int) -> np.ndarray:
    counts = np.array([len(r) for r in rows], dtype=np.int64)
    padded = np.full((len(rows), counts.max(initial=0), columns), np.nan)
    padded[np.arange(padded.shape[1]) < counts[:, None]] = np.concatenate(
        [np.zeros((0, columns)), *rows]
    )
    return padded
