"""Tie-aware retrieval metrics: equal scores count as if their order were random.

Each metric takes a matrix of scores and returns one value for each query;
`vla.evaluation.retrieval_protocol` builds the matrices. Rows are processed in blocks, so that a
few dozen MB suffice beside the matrix, whatever its size. With an even number of queries, the
median rank is the mean of the two middle ranks; CLIP4Clip's for several captions
(`torch.median`) is the lower one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vla.errors import ShapeError, UsageError

RECALLS = (1, 5, 10)
"""k of R@k in the tables of CLIP4Clip and later work."""
PARTIAL_RECALLS = (1, 5, 10, 100)
"""k of R@k in partially relevant video retrieval (MS-SL)."""

# Scores per block: enough that numpy's own work dominates.
_BLOCK = 1 << 22
_Counts = tuple[np.ndarray, np.ndarray, np.ndarray]


def ranks(similarity: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Compute the rank, from 1, of each query's best relevant item; an item that ties counts half.

    `1 + (number strictly better) + (number equal but not relevant) / 2`. With one relevant item, a
    matrix of equal scores has rank (V + 1) / 2, the chance level. Where r relevant items tie, chance
    would be `/ (r + 1)`, so that this rank is the stricter one.

    Args:
        similarity: `(Q, V)`, higher is better.
        relevant: `(Q, V)` bool; of several relevant items of a query, the best counts.

    Returns:
        `(Q,)` float64.

    Raises:
        ShapeError: the shapes differ.
        UsageError: no queries, a query without relevant items, or a NaN.
    """
    return _ranks(_count_around_best(_blocks(similarity, relevant)))


def recalls_and_ranks(
    similarity: np.ndarray, relevant: np.ndarray, recalls: Sequence[int] = RECALLS
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Compute the recall at each k of `recalls`, and the ranks, in one pass over the scores.

    The recall at k is the probability that the first k items contain a relevant one, where equal
    scores are in random order. With b items strictly better than the best relevant one, and e
    others and r relevant ones equal to it, the probability that the first n = k - b of these e + r
    contain none of the r is `C(e, n) / C(e + r, n)`. Without ties this is 0 or 1. With one relevant
    item and V equal scores it is k / V.

    Args:
        similarity: `(Q, V)`, higher is better.
        relevant: `(Q, V)` bool.
        recalls: each k is at least 1, and may exceed V.

    Returns:
        `(Q,)` in [0, 1] by k, whose mean is R@k as a fraction; and `(Q,)` ranks.

    Raises:
        ShapeError: the shapes differ.
        UsageError: as in `ranks`, or k < 1.
    """
    _check_recalls(recalls)
    counts = _count_around_best(_blocks(similarity, relevant))
    return {k: _expected_recall(counts, k) for k in recalls}, _ranks(counts)


def _row_blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(1, columns))
    return (slice(start, start + step) for start in range(0, rows, step))


def _blocks(
    similarity: np.ndarray, relevant: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if similarity.ndim != 2 or similarity.shape != relevant.shape:
        raise ShapeError(
            f"similarity {similarity.shape} and relevant {relevant.shape} must have the same 2-D "
            f"shape"
        )
    return (
        (similarity[part], relevant[part].astype(bool)) for part in _row_blocks(*similarity.shape)
    )


def _count_around_best(rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> _Counts:
    """Count, for each query, the items around its best relevant one.

    Returns:
        `(Q,)` each: items strictly better, other items with an equal score, and relevant items with
        an equal score.
    """
    counts, num_invalid, num_queries = [], 0, 0
    for scores, relevant in rows:
        scores = scores if scores.dtype.kind == "f" else scores.astype(np.float64)
        num_invalid, num_queries = (
            num_invalid + int((~relevant.any(axis=1)).sum()),
            num_queries + len(scores),
        )
        if scores.size and np.isnan(scores.max()):
            raise UsageError("the similarity contains NaN, which cannot be ranked")
        best = scores.max(axis=1, keepdims=True, where=relevant, initial=-np.inf)
        is_equal = scores == best
        num_relevant = np.count_nonzero(is_equal & relevant, axis=1)
        counts.append(
            (
                np.count_nonzero(scores > best, axis=1),
                np.count_nonzero(is_equal, axis=1) - num_relevant,
                num_relevant,
            )
        )
    if num_invalid or not counts:
        raise UsageError(
            f"{num_invalid} of {num_queries} queries have no relevant item: remove them or mark "
            f"their items"
        )
    better, equal, num_relevant = (np.concatenate(counts) for counts in zip(*counts, strict=True))
    return better, equal, num_relevant


def _ranks(counts: _Counts) -> np.ndarray:
    better, equal, _ = counts
    return 1.0 + better + equal / 2


def _expected_recall(counts: _Counts, k: int) -> np.ndarray:
    better, equal, relevant = counts
    miss_rate = np.ones(len(better))
    for draw in range(k):
        others = np.maximum(equal - draw, 0)
        # Ranks of better items are not drawn from the tie.
        miss_rate *= np.where(draw < k - better, others / (others + relevant), 1.0)
    return 1.0 - miss_rate


def _check_recalls(recalls: Sequence[int]) -> None:
    for k in recalls:
        if k < 1:
            raise UsageError(f"invalid recall depth {k}: it must be at least 1")
