"""Moment metrics: how often the span that was found is the span that was meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.errors import ShapeError, UsageError
from vla.spans import iou

# (among the first so many predictions, IoU to reach)
_RECALLS = ((1, 0.3), (1, 0.5), (1, 0.7), (5, 0.5), (5, 0.7))


def moment_metrics(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, float]:
    """`R1@0.3`, `R1@0.5`, `R1@0.7`, `R5@0.5`, `R5@0.7` and `mIoU`, all in percent.

    `Rn@x` is the part of the queries of which one of the first n predictions has IoU of at least x with any true span;
    `mIoU` is the mean, over queries, of the first prediction's best IoU. A query without predictions is a miss.

    Args:
        predictions: for every query `(N, 3)`, rows of start, end (seconds) and score, best first. The order decides, as
            in the official scripts; the score is not read.
        truths: for every query `(M, 2)` seconds, M at least 1.

    Raises:
        ShapeError: predictions and truths are not as many, or an array has other columns.
        UsageError: no queries, a query without a true span, or a malformed span.
    """
    first, best_of_five = best_ious(predictions, truths, 1), best_ious(predictions, truths, 5)
    found = {1: first, 5: best_of_five}
    metrics = {f"R{n}@{x}": 100 * float((found[n] >= x).mean()) for n, x in _RECALLS}
    return {**metrics, "mIoU": 100 * float(first.mean())}


def best_ious(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], n: int) -> np.ndarray:
    """`(Q,)`: the best IoU that any of a query's first `n` predictions has with any true span. As `moment_metrics`."""
    if len(predictions) != len(truths):
        raise ShapeError(f"{len(predictions)} queries have predictions but {len(truths)} have true spans")
    lost = sum(len(spans) == 0 for spans in truths)
    if lost or not len(truths):
        raise UsageError(f"{lost} of {len(truths)} queries have no true span: leave them out, or give theirs")
    return np.array([_best_iou(p, t, n) for p, t in zip(predictions, truths, strict=True)])


def _best_iou(predicted: np.ndarray, true: np.ndarray, n: int) -> float:
    if not len(predicted):
        return 0.0
    if predicted.ndim != 2 or predicted.shape[1] != 3:
        raise ShapeError(f"predictions are rows of (start, end, score), not an array of shape {predicted.shape}")
    return float(iou(predicted[:n, :2], true).max())
