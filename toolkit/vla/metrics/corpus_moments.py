"""Corpus moment retrieval (VCMR): rank of the correct moment in a list of moments of all videos.

The rules are those of TVR's evaluator (Lei et al., arXiv 2001.09099; jayleicn/TVRetrieval,
`standalone_eval`), as also used for DiDeMo, ActivityNet Captions and Charades-STA. The order of
a list decides; scores are not read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.metrics.moments import check_pairs, check_predictions, pad_spans

TASKS = ("VCMR", "SVMR", "VR")
"""Moment among all videos; moment in its own video; video."""
THRESHOLDS = (0.5, 0.7)
RECALLS = (1, 5, 10, 100)

_MAX_PREDICTIONS = 100
# With at least 4 true spans (the annotators of DiDeMo), 2 must be reached; with fewer, 1.
_MIN_ANNOTATORS, _MIN_AGREEMENT = 4, 2


def first_hit_ranks(
    predictions: Sequence[np.ndarray],
    videos: ArrayLike,
    truths: Sequence[np.ndarray],
    task: str = "VCMR",
) -> np.ndarray:
    """Compute the rank, from 1, of each query's first correct prediction at each IoU threshold.

    A prediction is correct if it lies in the true video and reaches the IoU threshold with any true
    span, or with two where there are at least four (the annotators of DiDeMo).

    Args:
        predictions: for each query `(N, 4)`, rows of video, start, end (seconds) and score, best
            first; only the first 100 count. A query without predictions is a miss.
        videos: `(Q,)` int, each query's true video.
        truths: for each query `(M, 2)` seconds, M at least 1.
        task: of `TASKS`. VR reads only the videos, and SVMR only the predictions in the true video.

    Returns:
        `(Q, 2)` for the thresholds 0.5 and 0.7, or `(Q, 1)` for VR; infinite without a correct
        prediction.

    Raises:
        ShapeError: arguments differ in length, or an array has other columns.
        UsageError: an unknown task, no queries, a query without a true span, or a malformed row.
    """
    check_pairs(predictions, truths)
    own_videos = np.asarray(videos)
    if own_videos.shape != (len(truths),):
        raise ShapeError(
            f"expected one true video for each of {len(truths)} queries, got shape "
            f"{own_videos.shape}"
        )
    if task not in TASKS:
        raise UsageError(f"unknown task {task!r}; available: {', '.join(TASKS)}")
    lists = [check_predictions(p, 4)[:_MAX_PREDICTIONS] for p in predictions]
    rows, query = np.concatenate(lists), np.repeat(np.arange(len(lists)), [len(p) for p in lists])
    in_video = rows[:, 0] == own_videos[query]
    if task == "VR":
        return _first_ranks(in_video[:, None], query, len(lists))
    is_correct = in_video[:, None] & _reaches_thresholds(rows[:, 1:3], pad_spans(truths)[query])
    if task == "SVMR":
        is_correct, query = is_correct[in_video], query[in_video]
    return _first_ranks(is_correct, query, len(lists))


def _reaches_thresholds(predictions: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return `(N, thresholds)` bool: whether predictions reach enough true spans at each threshold.

    Args:
        predictions: `(N, 2)` seconds.
        true: `(N, M, 2)` seconds; NaN where a query has fewer spans.
    """
    # Single precision and the hull of both spans, as in the evaluator: this decides at a threshold.
    start, end = predictions.astype(np.float32).T
    count = np.zeros((len(predictions), len(THRESHOLDS)), dtype=np.int64)
    for low, high in true.astype(np.float32).transpose(1, 2, 0):
        intersection = np.maximum(0, np.minimum(end, high) - np.maximum(start, low))
        union = np.maximum(end, high) - np.minimum(start, low)
        overlap = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
        count += overlap[:, None] >= np.array(THRESHOLDS, dtype=np.float32)
    spans = (~np.isnan(true[:, :, 0])).sum(axis=1)
    return count >= np.where(spans >= _MIN_ANNOTATORS, _MIN_AGREEMENT, 1)[:, None]


def _first_ranks(is_correct: np.ndarray, query: np.ndarray, num_queries: int) -> np.ndarray:
    """Return `(queries, columns)`: the rank of the first correct row of each query.

    Args:
        is_correct: `(N, columns)` bool.
        query: `(N,)` query of each row, ascending.
        num_queries: number of queries.
    """
    rank = np.arange(len(query)) - np.searchsorted(query, query) + 1
    first_ranks = np.full((num_queries, is_correct.shape[1]), np.inf)
    for column in range(is_correct.shape[1]):
        hit = is_correct[:, column]
        np.minimum.at(first_ranks[:, column], query[hit], rank[hit])
    return first_ranks
