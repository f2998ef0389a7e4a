"""Grounded question answering: whether the answer is right, and right because of the moment that shows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.metrics.moments import check_pairs, padded

_REACHED = (0.3, 0.5)
_GROUNDED = 0.5


def grounding_scores(right: ArrayLike, spans: ArrayLike, truths: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Compute NExT-GQA's measures, `(Q,)` from 0 to 1 each.

    `Acc@GQA` (the answer is right and IoP at least .5), `mIoP`, `IoP@0.3`, `IoP@0.5`, `mIoU`, `IoU@0.3`, `IoU@0.5`, and
    `Acc@QA`. Source: Xiao et al., arXiv 2309.01327; doc-doc/NExT-GQA, `eval_ground.py`, which leaves questions without a
    prediction out; here every question has one.

    Args:
        right: `(Q,)` bool, whether each answer is right, or how likely that is.
        spans: `(Q, 2)` seconds, the one moment given as evidence.
        truths: for every question `(M, 2)` seconds, M at least 1.

    Raises:
        ShapeError: not as many of one as of the others, or not rows of two numbers.
        UsageError: no questions, one without a true span, or a malformed span.
    """
    iou, iop = overlaps(spans, truths)
    correct = np.asarray(right)
    if correct.shape != iou.shape:
        raise ShapeError(f"{len(iou)} questions need to be right or wrong each, not an array of shape {correct.shape}")
    shares = {"Acc@GQA": correct * (iop >= _GROUNDED)}
    for name, values in (("IoP", iop), ("IoU", iou)):
        shares |= {f"m{name}": values, **{f"{name}@{x}": values >= x for x in _REACHED}}
    return {**shares, "Acc@QA": correct}


def overlaps(spans: ArrayLike, truths: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`(Q,)` each: IoU, and IoP, the part of the predicted span that is inside a true one; each the best over true spans.

    A prediction of one moment has IoU 0, and IoP 1 if some true span holds it, its end included. Arguments and errors as
    `grounding_scores`.
    """
    given = np.asarray(spans, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != 2:
        raise ShapeError(f"there is one span (start, end) for each question, not an array of shape {given.shape}")
    check_pairs(list(given), truths)
    wrong = np.flatnonzero(~(np.isfinite(given).all(axis=1) & (given[:, 0] <= given[:, 1])))
    if len(wrong):
        raise UsageError(f"span {wrong[0]} must be finite and not end before it starts, not {given[wrong[0]].tolist()}")
    true = padded(truths)
    low, high = np.maximum(given[:, None, 0], true[:, :, 0]), np.minimum(given[:, None, 1], true[:, :, 1])
    shared = np.maximum(0.0, high - low)
    across = np.maximum(given[:, None, 1], true[:, :, 1]) - np.minimum(given[:, None, 0], true[:, :, 0])
    length = (given[:, 1] - given[:, 0])[:, None]
    inside = np.where(length > 0, shared / np.where(length > 0, length, 1), low <= high)
    iou = np.divide(shared, across, out=np.zeros_like(shared), where=across > 0)
    # Where a question has fewer true spans than another, the rest is NaN.
    return iou.max(axis=1), np.nan_to_num(inside).max(axis=1)
