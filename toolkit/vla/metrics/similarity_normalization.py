"""Similarities that have seen other queries: figures from these belong in a column of their own, never beside plain ones.

`dual_softmax` looks at the whole test set at once, so no search engine can do it; `querybank` looks at a bank of captions
that were not in the test, so one can. Both give a matrix for the functions of `retrieval.py`.
"""

from __future__ import annotations

import numpy as np

from vla.errors import ShapeError, UsageError


def dual_softmax(similarity: np.ndarray, scale: float = 100.0) -> np.ndarray:
    """Every score times the share that its query has of its item's scores over all queries: "+DSL" in tables.

    `s * softmax(scale * s, over queries)`, the inference trick of CAMoE and TS2-Net (`sim * softmax(sim, axis=0)`, whose
    `sim` is the cosine times CLIP's temperature of 100; the factor does not change the order). It takes for granted that
    every item belongs to one query, which a test set fulfils and a user's questions do not. As published, a negative
    score falls where its share grows; cosines of right pairs are positive.

    Args:
        similarity: `(Q, V)`, a row for each query: for video to text give the transpose.
        scale: of the softmax; 100 for cosines, 1 for what was scaled already.

    Returns:
        `(Q, V)` float64.

    Raises:
        ShapeError: not a matrix.
        UsageError: no queries, a score that is not finite, or a scale that is not positive.
    """
    scores = _checked(similarity, "the similarity")
    _check_positive("scale", scale)
    shares = np.exp(scale * (scores - scores.max(axis=0)))
    return scores * (shares / shares.sum(axis=0))


def querybank(similarity: np.ndarray, bank: np.ndarray, beta: float = 20.0, top: int = 1) -> np.ndarray:
    """Scores from which each item's popularity among a bank of queries is taken, for queries that lead to such items.

    Dynamic inverted softmax (QB-Norm, arXiv 2112.12777, official repository ioanacroi/qb-norm). Items among the `top` of
    some bank query are hubs; a query whose best item is one is ranked by `exp(beta s) / sum over the bank of exp(beta b)`,
    any other by `s`. Given here is `s - log(sum) / beta`, which orders a row the same and cannot overflow. Rows are on
    different scales, so compare within rows only: for video to text give transposes, and a bank of videos.

    Args:
        similarity: `(Q, V)`, a row for each query.
        bank: `(B, V)` of other queries, e.g. captions of the training set, and the same items.
        beta: inverse temperature; 20 in the paper (for cosines), 1.99 for CLIP2Video's scores.
        top: how many items of each bank query are hubs.

    Returns:
        `(Q, V)` float64.

    Raises:
        ShapeError: not matrices over the same items.
        UsageError: no queries, an empty bank, a score that is not finite, or an option out of range.
    """
    scores, others = _checked(similarity, "the similarity"), _checked(bank, "the bank")
    if scores.shape[1] != others.shape[1]:
        raise ShapeError(f"similarity {scores.shape} and bank {others.shape} must have the same items as columns")
    _check_positive("beta", beta)
    if not 1 <= top <= scores.shape[1]:
        raise UsageError(f"top {top} must lie between 1 and the number of items, {scores.shape[1]}")
    hubs = np.zeros(scores.shape[1], dtype=bool)
    hubs[np.argsort(-others, axis=1, kind="stable")[:, :top]] = True
    highest = others.max(axis=0)
    popularity = highest + np.log(np.exp(beta * (others - highest)).sum(axis=0)) / beta
    leads_to_hub = hubs[scores.argmax(axis=1)]
    return np.where(leads_to_hub[:, None], scores - popularity, scores)


def _checked(scores: np.ndarray, name: str) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2:
        raise ShapeError(f"{name} is a row for each query and a column for each item, not of shape {scores.shape}")
    if not scores.size or not np.isfinite(scores).all():
        raise UsageError(f"{name} of shape {scores.shape} must hold at least one score, and finite ones only")
    return scores


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise UsageError(f"{name} must be a positive number, not {value}")
