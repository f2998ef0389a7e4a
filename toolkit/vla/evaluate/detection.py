"""Average precision of moments: how well a query's predictions rank what is right before what is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.errors import UsageError
from vla.evaluate.moments import check_pairs, check_predictions
from vla.spans import iou

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""IoU to reach, of QVHighlights."""


def average_precisions(
    predictions: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    thresholds: Sequence[float] = THRESHOLDS,
    most: int | None = 10,
) -> np.ndarray:
    """Average precision of every query at every threshold; the mean over the first axis is mAP.

    Of the first `most` predictions as listed, in order of their scores, each takes the true span it overlaps most among
    those that no better one has taken, if their IoU reaches the threshold; the others are wrong. The area under the
    interpolated precision (the best at this or a higher recall) is taken at every step of recall. That is
    ActivityNet's and VOC 2010's evaluation within one query, as QVHighlights does it (jayleicn/moment_detr,
    `standalone_eval`). Of equal scores the first listed is the better one, of equal IoUs the span listed last.

    Args:
        predictions: for every query `(N, 3)`, rows of start, end (seconds) and score.
        truths: for every query `(M, 2)` seconds, M at least 1.
        thresholds: of IoU, each reached by what equals it.
        most: how many predictions count, by their place in the list, not by score; None for all.

    Returns:
        `(Q, thresholds)` in [0, 1]; 0 for a query without predictions.

    Raises:
        ShapeError: predictions and truths are not as many, or an array has other columns.
        UsageError: no queries, a query without a true span, a malformed row, or an option out of range.
    """
    check_pairs(predictions, truths)
    levels = np.asarray(thresholds, dtype=np.float64)
    if not len(levels) or not ((levels > 0) & (levels <= 1)).all() or (most is not None and most < 1):
        raise UsageError(f"IoU thresholds {list(thresholds)} must lie in (0, 1] and most {most} be at least 1")
    return np.stack(
        [
            _average_precision(check_predictions(p)[:most], np.asarray(t), levels)
            for p, t in zip(predictions, truths, strict=True)
        ]
    )


def _average_precision(predicted: np.ndarray, true: np.ndarray, levels: np.ndarray) -> np.ndarray:
    predicted = predicted[np.argsort(-predicted[:, 2], kind="stable")]
    right = _matched(iou(predicted[:, :2], true), levels)
    counts = right.cumsum(axis=1)
    precision = counts / np.arange(1, len(predicted) + 1)
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.diff(counts / len(true), axis=1, prepend=0) * interpolated).sum(axis=1)


def _matched(overlaps: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`(levels, N)` bool: whether each prediction, the best first, gets a true span of its own. overlaps: `(N, M)`."""
    free = np.ones((len(levels), overlaps.shape[1]), dtype=bool)
    right = np.zeros((len(levels), len(overlaps)), dtype=bool)
    for place, row in enumerate(overlaps):
        order = np.argsort(row, kind="stable")[::-1]
        fits = free[:, order] & (row[order] >= levels[:, None])
        right[:, place] = fits.any(axis=1)
        free[right[:, place], order[fits.argmax(axis=1)][right[:, place]]] = False
    return right
