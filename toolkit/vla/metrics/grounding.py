"""Grounded question answering: correctness of answers together with their evidence span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.metrics.moments import check_pairs, pad_spans

_THRESHOLDS = (0.3, 0.5)
_MIN_IOP = 0.5


def grounding_scores(
    is_correct: ArrayLike, spans: ArrayLike, truths: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Compute the metrics of NExT-GQA, `(Q,)` from 0 to 1 each.

    `Acc@GQA` (correct answer and IoP of at least 0.5), `mIoP`, `IoP@0.3`, `IoP@0.5`, `mIoU`,
    `IoU@0.3`, `IoU@0.5`, and `Acc@QA`. Source: Xiao et al., arXiv 2309.01327; doc-doc/NExT-GQA,
    `eval_ground.py`, which omits questions without a prediction; here every question has one.

    Args:
        is_correct: `(Q,)` bool, whether each answer is correct, or the probability of that.
        spans: `(Q, 2)` seconds, the predicted evidence.
        truths: for each question `(M, 2)` seconds, M at least 1.

    Raises:
        ShapeError: arguments differ in length, or rows are not two numbers.
        UsageError: no questions, a question without a true span, or a malformed span.
    """
    iou, iop = iou_and_iop(spans, truths)
    correctness = np.asarray(is_correct)
    if correctness.shape != iou.shape:
        raise ShapeError(
            f"expected one correctness for each of {len(iou)} questions, got shape "
            f"{correctness.shape}"
        )
    scores = {"Acc@GQA": correctness * (iop >= _MIN_IOP)}
    for name, values in (("IoP", iop), ("IoU", iou)):
        scores |= {f"m{name}": values, **{f"{name}@{x}": values >= x for x in _THRESHOLDS}}
    return {**scores, "Acc@QA": correctness}


def iou_and_iop(spans: ArrayLike, truths: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the IoU, and the IoP (share of the predicted span inside a true one), `(Q,)` each.

    Each is the best over the true spans. A predicted span of zero length has an IoU of 0, and an
    IoP of 1 if a true span contains it, ends included. Arguments and errors as in
    `grounding_scores`.
    """
    rows = np.asarray(spans, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ShapeError(
            f"expected one span (start, end) for each question, got an array of shape {rows.shape}"
        )
    check_pairs(list(rows), truths)
    wrong = np.flatnonzero(~(np.isfinite(rows).all(axis=1) & (rows[:, 0] <= rows[:, 1])))
    if len(wrong):
        raise UsageError(
            f"invalid span {wrong[0]}, {rows[wrong[0]].tolist()}: it must be finite and not end "
            f"before it starts"
        )
    true_spans = pad_spans(truths)
    low, high = (
        np.maximum(rows[:, None, 0], true_spans[:, :, 0]),
        np.minimum(rows[:, None, 1], true_spans[:, :, 1]),
    )
    intersection = np.maximum(0.0, high - low)
    union = np.maximum(rows[:, None, 1], true_spans[:, :, 1]) - np.minimum(
        rows[:, None, 0], true_spans[:, :, 0]
    )
    length = (rows[:, 1] - rows[:, 0])[:, None]
    inside = np.where(length > 0, intersection / np.where(length > 0, length, 1), low <= high)
    iou = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    # NaN where a question has fewer true spans than another.
    return iou.max(axis=1), np.nan_to_num(inside).max(axis=1)
