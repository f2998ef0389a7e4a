"""Corpus moment retrieval: how early a list of moments of many videos has the moment that was meant.

The rules are those of TVR's evaluator (Lei et al., arXiv 2001.09099; jayleicn/TVRetrieval, `standalone_eval`), which others
use for DiDeMo, ActivityNet Captions and Charades-STA too. Lists are judged in the order they have; scores are not read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.metrics.moments import check_pairs, check_predictions, padded

TASKS = ("VCMR", "SVMR", "VR")
"""A moment among all videos; a moment in its own video; a video."""
THRESHOLDS = (0.5, 0.7)
RECALLS = (1, 5, 10, 100)

_MOST = 100
# With so many true spans (DiDeMo, four annotators), so many must be reached; with fewer, one.
_ANNOTATORS, _AGREE = 4, 2


def first_hit_ranks(
    predictions: Sequence[np.ndarray], videos: ArrayLike, truths: Sequence[np.ndarray], task: str = "VCMR"
) -> np.ndarray:
    """Place, from 1, of each query's first right prediction for every IoU threshold; infinite where none is right.

    A prediction is right in the true video with IoU of at least the threshold: with any true span, or, where there are
    four or more (DiDeMo's annotators), with two.

    Args:
        predictions: for every query `(N, 4)`, rows of video, start, end (seconds) and score, best first; those after the
            first 100 do not count. A query without predictions is a miss.
        videos: `(Q,)` int, each query's true video.
        truths: for every query `(M, 2)` seconds, M at least 1.
        task: of `TASKS`. VR reads the videos only and SVMR the predictions in the true video only.

    Returns:
        `(Q, 2)` for the thresholds .5 and .7; `(Q, 1)` for VR.

    Raises:
        ShapeError: not as many of one as of the others, or an array with other columns.
        UsageError: an unknown task, no queries, a query without a true span, or a malformed row.
    """
    check_pairs(predictions, truths)
    own = np.asarray(videos)
    if own.shape != (len(truths),):
        raise ShapeError(f"{len(truths)} queries need one true video each, not videos of shape {own.shape}")
    if task not in TASKS:
        raise UsageError(f"a task is one of {', '.join(TASKS)}, not {task!r}")
    lists = [check_predictions(p, 4)[:_MOST] for p in predictions]
    rows, query = np.concatenate(lists), np.repeat(np.arange(len(lists)), [len(p) for p in lists])
    in_video = rows[:, 0] == own[query]
    if task == "VR":
        return _first(in_video[:, None], query, len(lists))
    right = in_video[:, None] & _reached(rows[:, 1:3], padded(truths)[query])
    if task == "SVMR":
        right, query = right[in_video], query[in_video]
    return _first(right, query, len(lists))


def _reached(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """`(N, thresholds)` bool. predicted: `(N, 2)`, true: `(N, M, 2)` with NaN where a query has fewer spans."""
    # In single precision and over the time from first to last, as the evaluator does: that decides at a threshold.
    start, end = predicted.astype(np.float32).T
    count = np.zeros((len(predicted), len(THRESHOLDS)), dtype=np.int64)
    for low, high in true.astype(np.float32).transpose(1, 2, 0):
        shared = np.maximum(0, np.minimum(end, high) - np.maximum(start, low))
        across = np.maximum(end, high) - np.minimum(start, low)
        overlap = np.divide(shared, across, out=np.zeros_like(shared), where=across > 0)
        count += overlap[:, None] >= np.array(THRESHOLDS, dtype=np.float32)
    spans = (~np.isnan(true[:, :, 0])).sum(axis=1)
    return count >= np.where(spans >= _ANNOTATORS, _AGREE, 1)[:, None]


def _first(right: np.ndarray, query: np.ndarray, queries: int) -> np.ndarray:
    """`(queries, columns)`: the place of the first right row of each query. query: `(N,)`, ascending."""
    place = np.arange(len(query)) - np.searchsorted(query, query) + 1
    found = np.full((queries, right.shape[1]), np.inf)
    for column in range(right.shape[1]):
        hit = right[:, column]
        np.minimum.at(found[:, column], query[hit], place[hit])
    return found
