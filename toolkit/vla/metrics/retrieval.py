"""Retrieval metrics that ties cannot flatter: equal scores count as a draw by lot.

Every metric takes a matrix of scores and gives a value for each query; `searching.py` builds the matrices. Rows are taken
in blocks: beside the matrix itself a few dozen MB are needed, whatever its size. The median rank lies between the two
middle ranks of an even number of queries; CLIP4Clip's for several captions (`torch.median`) is the lower one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vla.errors import ShapeError, UsageError

RECALLS = (1, 5, 10)
"""Of the tables of CLIP4Clip and its kind."""
PARTIAL_RECALLS = (1, 5, 10, 100)
"""Of partially relevant video retrieval (MS-SL)."""

# Scores looked at together: enough that numpy's own work dominates.
_BLOCK = 1 << 22
_Around = tuple[np.ndarray, np.ndarray, np.ndarray]


def ranks(similarity: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rank, from 1, of every query's best relevant item; an item that ties with it counts half.

    `1 + (number strictly better) + (number equal but not relevant) / 2`. With one relevant item a matrix of equal
    scores has rank (V + 1) / 2, which is chance; where r relevant items tie, chance would be `/ (r + 1)`, so this is
    the stricter rank.

    Args:
        similarity: `(Q, V)`, higher is better.
        relevant: `(Q, V)` bool; a query may have several relevant items, of which the best counts.

    Returns:
        `(Q,)` float64.

    Raises:
        ShapeError: the two disagree.
        UsageError: no queries, a query without relevant items, or a NaN.
    """
    return _ranks(_around_best(_rows(similarity, relevant)))


def recalls_and_ranks(
    similarity: np.ndarray, relevant: np.ndarray, recalls: Sequence[int] = RECALLS
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Compute the recall among the first k items for every k of `recalls`, and `ranks`, in one pass over the scores.

    A recall is the probability that the first k items hold a relevant one, equal scores being in random order. With b
    items strictly better than the best relevant one, and e others and r relevant ones equal to it, the chance that none
    of the r is among the first n = k - b of these e + r is `C(e, n) / C(e + r, n)`. Without ties this is 0 or 1. With one
    relevant item and V equal scores it is k / V.

    Args:
        similarity: `(Q, V)`, higher is better.
        relevant: `(Q, V)` bool.
        recalls: each k is at least 1, and may exceed V.

    Returns:
        `(Q,)` in [0, 1] by k: its mean is R@k as a fraction; and `(Q,)` ranks.

    Raises:
        ShapeError: the two disagree.
        UsageError: as `ranks`, or k < 1.
    """
    _check_recalls(recalls)
    around = _around_best(_rows(similarity, relevant))
    return {k: _expected_recall(around, k) for k in recalls}, _ranks(around)


def _parts(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(1, columns))
    return (slice(start, start + step) for start in range(0, rows, step))


def _rows(similarity: np.ndarray, relevant: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if similarity.ndim != 2 or similarity.shape != relevant.shape:
        raise ShapeError(f"similarity {similarity.shape} and relevant {relevant.shape} must be one 2-D shape")
    return ((similarity[part], relevant[part].astype(bool)) for part in _parts(*similarity.shape))


def _around_best(rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> _Around:
    """`(Q,)` each: items strictly better than the best relevant one, others equal to it, relevant ones equal to it."""
    found, lost, asked = [], 0, 0
    for scores, relevant in rows:
        scores = scores if scores.dtype.kind == "f" else scores.astype(np.float64)
        lost, asked = lost + int((~relevant.any(axis=1)).sum()), asked + len(scores)
        if scores.size and np.isnan(scores.max()):
            raise UsageError("the similarity holds NaN: nothing can be ranked")
        best = scores.max(axis=1, keepdims=True, where=relevant, initial=-np.inf)
        same = scores == best
        tied = np.count_nonzero(same & relevant, axis=1)
        found.append((np.count_nonzero(scores > best, axis=1), np.count_nonzero(same, axis=1) - tied, tied))
    if lost or not found:
        raise UsageError(f"{lost} of {asked} queries have no relevant item: leave them out, or mark theirs")
    better, equal, tied = (np.concatenate(counts) for counts in zip(*found, strict=True))
    return better, equal, tied


def _ranks(around: _Around) -> np.ndarray:
    better, equal, _ = around
    return 1.0 + better + equal / 2


def _expected_recall(around: _Around, k: int) -> np.ndarray:
    better, equal, tied = around
    missed = np.ones(len(better))
    for drawn in range(k):
        left = np.maximum(equal - drawn, 0)
        # The places that better items take are not drawn from the tie.
        missed *= np.where(drawn < k - better, left / (left + tied), 1.0)
    return 1.0 - missed


def _check_recalls(recalls: Sequence[int]) -> None:
    for k in recalls:
        if k < 1:
            raise UsageError(f"recall is of the first 1 or more items, not of {k}")
