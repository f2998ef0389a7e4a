"""Average precision of predicted moments, for each query and IoU threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.errors import UsageError
from vla.metrics.moments import (
    check_pairs,
    check_predictions,
    pad_predictions,
    pad_spans,
    pairwise_iou,
)

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""IoU thresholds of QVHighlights."""


def average_precisions(
    predictions: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    thresholds: Sequence[float] = THRESHOLDS,
    max_predictions: int | None = 10,
) -> np.ndarray:
    """Compute the average precision of each query at each IoU threshold; the mean of these is mAP.

    The first `max_predictions` predictions are matched by falling score. Each takes the true span
    with which it has the highest IoU among the spans that are still free, if that IoU reaches the
    threshold; otherwise it is wrong. The average precision is the area under the interpolated
    precision (the best precision at this or a higher recall), summed at each step of recall. This
    is the evaluation of ActivityNet and VOC 2010 within one query, as QVHighlights does it
    (jayleicn/moment_detr, `standalone_eval`). Among equal scores, the prediction that is listed
    first ranks higher; among equal IoUs, the span that is listed last is taken.

    Args:
        predictions: for each query `(N, 3)`, rows of start, end (seconds) and score.
        truths: for each query `(M, 2)` seconds, M at least 1.
        thresholds: IoU thresholds; an IoU that equals a threshold reaches it.
        max_predictions: number of predictions that count, in the order of the list, not of the
            scores; None for all.

    Returns:
        `(Q, thresholds)` in [0, 1]; 0 for a query without predictions.

    Raises:
        ShapeError: predictions and truths differ in number, or an array has other columns.
        UsageError: no queries, a query without a true span, a malformed row, or an option out of
            range.
    """
    check_pairs(predictions, truths)
    levels = np.asarray(thresholds, dtype=np.float64)
    if (
        not len(levels)
        or not ((levels > 0) & (levels <= 1)).all()
        or (max_predictions is not None and max_predictions < 1)
    ):
        raise UsageError(
            f"invalid IoU thresholds {list(thresholds)} or max_predictions {max_predictions}: "
            "thresholds must lie in (0, 1], and max_predictions must be at least 1"
        )
    rows = [check_predictions(p)[:max_predictions] for p in predictions]
    by_score = pad_predictions([r[np.argsort(-r[:, 2], kind="stable")] for r in rows])
    is_correct = _match(pairwise_iou(by_score[:, :, :2], pad_spans(truths)), levels)
    counts = is_correct.cumsum(axis=2)
    # Padding at the end of a shorter list counts as wrong predictions, which add no area.
    precision = counts / np.arange(1, by_score.shape[1] + 1)
    interpolated = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1]
    recall = counts / np.array([len(t) for t in truths])[:, None, None]
    return (np.diff(recall, axis=2, prepend=0) * interpolated).sum(axis=2)


def _match(iou: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return `(Q, levels, N)` bool: whether each prediction is matched with a true span.

    Args:
        iou: `(Q, N, M)`, predictions by falling score.
        levels: IoU thresholds.
    """
    num_queries, num_predictions, num_spans = iou.shape
    is_free = np.ones((num_queries, len(levels), num_spans), dtype=bool)
    is_correct = np.zeros((num_queries, len(levels), num_predictions), dtype=bool)
    for rank in range(num_predictions):
        order = np.argsort(iou[:, rank], axis=1, kind="stable")[:, ::-1]
        best_first = np.take_along_axis(iou[:, rank], order, axis=1)[:, None]
        fits = np.take_along_axis(is_free, order[:, None], axis=2) & (best_first >= levels[:, None])
        is_correct[:, :, rank] = fits.any(axis=2)
        query, level = np.nonzero(is_correct[:, :, rank])
        is_free[query, level, order[query, fits[query, level].argmax(axis=1)]] = False
    return is_correct
