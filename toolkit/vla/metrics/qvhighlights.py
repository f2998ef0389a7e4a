"""QVHighlights' table: exactly the figures that its official evaluator prints.

Source: Lei et al., arXiv 2107.09609; jayleicn/moment_detr, `standalone_eval`. What a submission lists is judged as listed:
R1 reads the first window and mAP the first ten, whatever their scores, so sort before writing (`submission.py` does).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.metrics.moments import check_pairs, check_predictions, overlaps, padded, padded_predictions

LENGTHS = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0)}
"""Seconds of a true window: longer than the first, up to and including the second."""


def first_ious(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> np.ndarray:
    """`(Q,)`: IoU of the first listed prediction with the true window it overlaps most; 0 where there is none.

    Errors as `vla.metrics.moments.best_ious`.
    """
    check_pairs(predictions, truths)
    first = padded_predictions([check_predictions(rows)[:1] for rows in predictions])
    true = padded(truths)
    if not first.shape[1]:
        return np.zeros(len(true))
    best = overlaps(first[:, :, :2], true)[:, 0].argmax(axis=1)
    (start, end), (low, high) = first[:, 0, :2].T, true[np.arange(len(true)), best].T
    # The evaluator divides by the time from first to last here, which for spans that overlap is what either covers,
    # but may differ from the usual sum in the last bit, and so at a threshold.
    shared, across = np.minimum(end, high) - np.maximum(start, low), np.maximum(end, high) - np.minimum(start, low)
    return np.divide(np.maximum(shared, 0), across, out=np.zeros(len(true)), where=across > 0)


def subsets(truths: Sequence[np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """By range of lengths, `full` the first: the queries that count, with the windows that count; ranges without any left out."""
    found = {"full": {query: np.asarray(windows, dtype=np.float64) for query, windows in enumerate(truths)}}
    for name, (above, upto) in LENGTHS.items():
        kept = {}
        for query, windows in found["full"].items():
            length = windows[:, 1] - windows[:, 0]
            kept[query] = windows[(above < length) & (length <= upto)]
        found[name] = {query: windows for query, windows in kept.items() if len(windows)}
    return {name: subset for name, subset in found.items() if subset}
