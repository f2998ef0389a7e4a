"""Similarity normalization over other queries: dual softmax and QB-Norm.

Report their metrics in a separate column, never next to plain ones. `dual_softmax` uses the
whole test set at once and is impossible in a search engine. `querybank` uses a bank of captions
from outside the test and is possible there. Both return a matrix for
`vla.metrics.retrieval`.
"""

from __future__ import annotations

import numpy as np

from vla.errors import ShapeError, UsageError


def dual_softmax(similarity: np.ndarray, scale: float = 100.0) -> np.ndarray:
    """Multiply each score by its softmax over the queries: "+DSL" in tables.

    `s * softmax(scale * s, over queries)`, the inference trick of CAMoE and TS2-Net (`sim *
    softmax(sim, axis=0)`, where `sim` is the cosine times CLIP's temperature of 100; the factor
    does not change the order). It assumes that each item belongs to one query. This holds for a
    test set, but not for the queries of a user. As published, a negative score falls where its share
    grows; cosines of true pairs are positive.

    Args:
        similarity: `(Q, V)`, a row for each query; pass the transpose for video to text.
        scale: of the softmax; 100 for cosines, 1 for scores that include the temperature.

    Returns:
        `(Q, V)` float64.

    Raises:
        ShapeError: not a matrix.
        UsageError: no queries, a score that is not finite, or a scale that is not positive.
    """
    scores = _validate(similarity, "the similarity")
    _check_positive("scale", scale)
    shares = np.exp(scale * (scores - scores.max(axis=0)))
    return scores * (shares / shares.sum(axis=0))


def querybank(
    similarity: np.ndarray, bank: np.ndarray, beta: float = 20.0, top: int = 1
) -> np.ndarray:
    """Subtract the hubness of items, estimated from a query bank, where a query's best item is a hub.

    Dynamic inverted softmax (QB-Norm, arXiv 2112.12777, official repository ioanacroi/qb-norm).
    Items among the `top` of a bank query are hubs. A query whose best item is a hub is ranked by
    `exp(beta s) / sum over the bank of exp(beta b)`, any other by `s`. The result is
    `s - log(sum) / beta`, which has the same order within a row and cannot overflow. Rows have
    different scales: compare scores within a row only. For video to text, pass transposes and a
    bank of videos.

    Args:
        similarity: `(Q, V)`, a row for each query.
        bank: `(B, V)` scores of other queries, e.g. training captions, for the same items.
        beta: inverse temperature; 20 in the paper (for cosines), 1.99 for CLIP2Video's scores.
        top: number of items of each bank query that are hubs.

    Returns:
        `(Q, V)` float64.

    Raises:
        ShapeError: not matrices over the same items.
        UsageError: no queries, an empty bank, a score that is not finite, or an option out of
            range.
    """
    scores, bank_scores = _validate(similarity, "the similarity"), _validate(bank, "the bank")
    if scores.shape[1] != bank_scores.shape[1]:
        raise ShapeError(
            f"similarity {scores.shape} and bank {bank_scores.shape} must have the same number "
            f"of columns (items)"
        )
    _check_positive("beta", beta)
    if not 1 <= top <= scores.shape[1]:
        raise UsageError(
            f"invalid top {top}: it must lie between 1 and the number of items, {scores.shape[1]}"
        )
    hubs = np.zeros(scores.shape[1], dtype=bool)
    hubs[np.argsort(-bank_scores, axis=1, kind="stable")[:, :top]] = True
    highest = bank_scores.max(axis=0)
    popularity = highest + np.log(np.exp(beta * (bank_scores - highest)).sum(axis=0)) / beta
    leads_to_hub = hubs[scores.argmax(axis=1)]
    return np.where(leads_to_hub[:, None], scores - popularity, scores)


def _validate(scores: np.ndarray, name: str) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2:
        raise ShapeError(
            f"expected {name} as a matrix of queries and items, got shape {scores.shape}"
        )
    if not scores.size or not np.isfinite(scores).all():
        raise UsageError(
            f"{name} of shape {scores.shape} must contain at least one score, all finite"
        )
    return scores


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise UsageError(f"invalid {name} {value}: it must be positive and finite")
