"""Average precision of moments: how well a query's predictions rank what is right before what is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.errors import UsageError
from vla.metrics.moments import check_pairs, check_predictions, overlaps, padded, padded_predictions

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
    rows = [check_predictions(p)[:most] for p in predictions]
    ranked = padded_predictions([r[np.argsort(-r[:, 2], kind="stable")] for r in rows])
    right = _matched(overlaps(ranked[:, :, :2], padded(truths)), levels)
    counts = right.cumsum(axis=2)
    # What is missing at the end of a shorter list is wrong here, which costs no area.
    precision = counts / np.arange(1, ranked.shape[1] + 1)
    interpolated = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1]
    recall = counts / np.array([len(t) for t in truths])[:, None, None]
    return (np.diff(recall, axis=2, prepend=0) * interpolated).sum(axis=2)


def _matched(iou: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`(Q, levels, N)` bool: whether each prediction, the best first, gets a true span of its own. iou: `(Q, N, M)`."""
    queries, predictions, spans = iou.shape
    free = np.ones((queries, len(levels), spans), dtype=bool)
    right = np.zeros((queries, len(levels), predictions), dtype=bool)
    for place in range(predictions):
        order = np.argsort(iou[:, place], axis=1, kind="stable")[:, ::-1]
        best_first = np.take_along_axis(iou[:, place], order, axis=1)[:, None]
        fits = np.take_along_axis(free, order[:, None], axis=2) & (best_first >= levels[:, None])
        right[:, :, place] = fits.any(axis=2)
        query, level = np.nonzero(right[:, :, place])
        free[query, level, order[query, fits[query, level].argmax(axis=1)]] = False
    return right
