"""Retrieval metrics that ties cannot flatter: equal scores count as a draw by lot."""

from __future__ import annotations

import numpy as np

from vla.errors import ShapeError, UsageError

RECALLS = (1, 5, 10)


def ranks(similarity: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rank, from 1, of every query's best relevant item; an item that ties with it counts half.

    `1 + (number strictly better) + (number equal but not relevant) / 2`. With one relevant item a matrix of equal
    scores has rank (V + 1) / 2, which is chance; where r relevant items tie, chance would be `/ (r + 1)`, so this is
    the stricter rank.

    Args:
        similarity: `(Q, V)`, higher is better.
        relevant: `(Q, V)` bool.

    Returns:
        `(Q,)` float64.

    Raises:
        ShapeError: the two disagree.
        UsageError: no queries, a query without relevant items, or a NaN.
    """
    better, equal, _ = _around_best(similarity, relevant)
    return 1.0 + better + equal / 2


def recall(similarity: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Probability that the first `k` items hold a relevant one, equal scores being in random order.

    With b items strictly better than the best relevant one, and e others and r relevant ones equal to it, the chance
    that none of the r is among the first n = k - b of these e + r is `C(e, n) / C(e + r, n)`. Without ties this is 0
    or 1. With one relevant item and V equal scores it is k / V.

    Args:
        similarity: `(Q, V)`, higher is better.
        relevant: `(Q, V)` bool.
        k: at least 1; may exceed V.

    Returns:
        `(Q,)` in [0, 1]; its mean is R@k as a fraction.

    Raises:
        ShapeError: the two disagree.
        UsageError: as `ranks`, or k < 1.
    """
    if k < 1:
        raise UsageError(f"recall is of the first 1 or more items, not of {k}")
    return _expected_recall(*_around_best(similarity, relevant), k)


def retrieval_metrics(similarity: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """`R@1`, `R@5`, `R@10` in percent, `MedR` and `MnR`, the median and mean rank.

    The recalls are those of `recall`, the ranks those of `ranks`; arguments and errors as there.
    """
    better, equal, tied = _around_best(similarity, relevant)
    rank = 1.0 + better + equal / 2
    metrics = {f"R@{k}": 100 * float(_expected_recall(better, equal, tied, k).mean()) for k in RECALLS}
    return {**metrics, "MedR": float(np.median(rank)), "MnR": float(rank.mean())}


def text_to_video(similarity: np.ndarray, video_of_query: np.ndarray) -> dict[str, float]:
    """Metrics of finding each caption's video; every caption is a query of its own.

    Args:
        similarity: `(Q, V)` of captions and videos.
        video_of_query: `(Q,)` int, the column of each caption's video.

    Raises:
        ShapeError: the two disagree.
        UsageError: no captions, a column that does not exist, or a NaN.
    """
    videos = _checked_videos(similarity, video_of_query)
    return retrieval_metrics(similarity, videos[:, None] == np.arange(similarity.shape[1]))


def video_to_text(similarity: np.ndarray, video_of_query: np.ndarray) -> dict[str, float]:
    """Metrics of finding each video's captions, which count as one item that scores as the best of them.

    This is the rule of MSVD and VATEX (CLIP4Clip). Videos without captions are neither queries nor candidates.
    Arguments and errors as `text_to_video`.
    """
    videos = _checked_videos(similarity, video_of_query)
    captioned, starts = np.unique(np.sort(videos), return_index=True)
    in_order = similarity[np.argsort(videos, kind="stable")][:, captioned]
    best = np.maximum.reduceat(in_order, starts, axis=0)
    return retrieval_metrics(best.T, np.eye(len(captioned), dtype=bool))


def _around_best(similarity: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(Q,)` each: items strictly better than the best relevant one, others equal to it, relevant ones equal to it."""
    if similarity.ndim != 2 or similarity.shape != relevant.shape:
        raise ShapeError(f"similarity {similarity.shape} and relevant {relevant.shape} must be one 2-D shape")
    relevant = relevant.astype(bool)
    lost = int((~relevant.any(axis=1)).sum())
    if lost or not len(similarity):
        raise UsageError(f"{lost} of {len(similarity)} queries have no relevant item: leave them out, or mark theirs")
    if np.isnan(similarity).any():
        raise UsageError("the similarity holds NaN: nothing can be ranked")
    best = np.where(relevant, similarity, -np.inf).max(axis=1, keepdims=True)
    same = similarity == best
    return (similarity > best).sum(axis=1), (same & ~relevant).sum(axis=1), (same & relevant).sum(axis=1)


def _expected_recall(better: np.ndarray, equal: np.ndarray, tied: np.ndarray, k: int) -> np.ndarray:
    missed = np.ones(len(better))
    for drawn in range(k):
        left = np.maximum(equal - drawn, 0)
        # The places that better items take are not drawn from the tie.
        missed *= np.where(drawn < k - better, left / (left + tied), 1.0)
    return 1.0 - missed


def _checked_videos(similarity: np.ndarray, video_of_query: np.ndarray) -> np.ndarray:
    videos = np.asarray(video_of_query)
    if similarity.ndim != 2 or videos.shape != similarity.shape[:1]:
        raise ShapeError(f"similarity {similarity.shape} needs one video for each row, not {videos.shape}")
    if not len(videos):
        raise UsageError("there are no captions to evaluate with")
    if videos.min() < 0 or videos.max() >= similarity.shape[1]:
        raise UsageError(f"captions belong to videos {videos.min()} to {videos.max()} of {similarity.shape[1]}")
    return videos
