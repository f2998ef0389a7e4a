"""Metrics of QVHighlights, exactly as its official evaluator prints them.

Source: Lei et al., arXiv 2107.09609; jayleicn/moment_detr, `standalone_eval`. The order of a
submission decides, not its scores: R1 reads the first window and mAP the first ten. Sort before
writing, as `vla.evaluation.submission` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.metrics.moments import (
    check_pairs,
    check_predictions,
    pad_predictions,
    pad_spans,
    pairwise_iou,
)

LENGTHS = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0)}
"""Duration ranges of true windows in seconds: above the first, up to and including the second."""


def first_ious(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> np.ndarray:
    """Compute `(Q,)` IoU of each query's first prediction with its best true window; 0 without one.

    Errors as in `vla.metrics.moments.best_ious`.
    """
    check_pairs(predictions, truths)
    first = pad_predictions([check_predictions(rows)[:1] for rows in predictions])
    true_spans = pad_spans(truths)
    if not first.shape[1]:
        return np.zeros(len(true_spans))
    best = pairwise_iou(first[:, :, :2], true_spans)[:, 0].argmax(axis=1)
    (start, end), (low, high) = first[:, 0, :2].T, true_spans[np.arange(len(true_spans)), best].T
    # The evaluator divides by the hull of both spans. For spans that overlap this is their union, but
    # it may differ from the usual sum in the last bit, and so at a threshold.
    intersection, hull = (
        np.minimum(end, high) - np.maximum(start, low),
        np.maximum(end, high) - np.minimum(start, low),
    )
    return np.divide(
        np.maximum(intersection, 0), hull, out=np.zeros(len(true_spans)), where=hull > 0
    )


def subsets(truths: Sequence[np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """Return the queries, with their true windows, of each duration range; `full` is the first.

    Ranges without windows are omitted.
    """
    by_range = {
        "full": {
            query: np.asarray(windows, dtype=np.float64) for query, windows in enumerate(truths)
        }
    }
    for name, (lower, upper) in LENGTHS.items():
        in_range = {}
        for query, windows in by_range["full"].items():
            length = windows[:, 1] - windows[:, 0]
            in_range[query] = windows[(lower < length) & (length <= upper)]
        by_range[name] = {query: windows for query, windows in in_range.items() if len(windows)}
    return {name: subset for name, subset in by_range.items() if subset}
