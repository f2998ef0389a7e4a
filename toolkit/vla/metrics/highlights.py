"""Highlight detection metrics: agreement of clip scores with the ratings of annotators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

LEVELS = {"Fair": 2.0, "Good": 3.0, "VeryGood": 4.0}
"""QVHighlights: lowest rating, of 0 to 4, of a highlight. Tables report Very Good."""

MAX_CLIPS = 100_000
"""55 hours of QVHighlights' clips of 2 s."""
# Queries per block, to bound memory.
_BLOCK = 1024


def clip_count(duration_seconds: float, clip_seconds: float, last_annotation: int) -> int:
    """Return the number of clips of `clip_seconds` in a video, at least up to the last rated clip.

    Raises:
        UsageError: more than MAX_CLIPS. The number comes from a file, and each clip takes memory.
    """
    count = max(int(duration_seconds / clip_seconds), last_annotation + 1)
    if count > MAX_CLIPS:
        raise UsageError(
            f"{count:,} clips of {clip_seconds:g} s in a video of {duration_seconds:g} s with "
            f"ratings "
            f"up to clip {last_annotation:,}: the maximum is {MAX_CLIPS:,}; remove this video or "
            f"its ratings"
        )
    return count


def clip_ratings(num_clips: int, clips: ArrayLike, ratings: ArrayLike) -> np.ndarray:
    """Return `(num_clips, annotators)`: the ratings of every clip of a video, 0 without a rating.

    Args:
        num_clips: number of clips of the video; for QVHighlights, whole clips of 2 s.
        clips: `(R,)`, ids of the rated clips.
        ratings: `(R, annotators)`.

    Raises:
        ShapeError: not one row of ratings for each clip.
        UsageError: a clip beyond the end of the video.
    """
    clip_ids, clip_scores = np.asarray(clips, dtype=np.int64), np.asarray(ratings, dtype=np.float64)
    if clip_ids.ndim != 1 or clip_scores.ndim != 2 or len(clip_ids) != len(clip_scores):
        raise ShapeError(
            f"expected one row of ratings for each clip, got clips {clip_ids.shape} and ratings "
            f"{clip_scores.shape}"
        )
    if len(clip_ids) and not 0 <= clip_ids.min() <= clip_ids.max() < num_clips:
        raise UsageError(
            f"ratings of clips {clip_ids.min()} to {clip_ids.max()}, but the video has "
            f"{num_clips} clips"
        )
    all_ratings = np.zeros((num_clips, clip_scores.shape[1]))
    all_ratings[clip_ids] = clip_scores
    return all_ratings


def highlight_hits(
    scores: Sequence[np.ndarray], ratings: Sequence[np.ndarray], min_rating: float
) -> np.ndarray:
    """Return `(Q,)` 0 or 1: whether an annotator rates the clip with the best score a highlight.

    Among equal scores the first clip counts. A clip beyond the annotated ones is a miss. Arguments
    and errors as in `highlight_precisions`.
    """
    hits = []
    for clip_scores, labels in _validate_pairs(scores, ratings):
        top_clip = int(clip_scores.argmax())
        hits.append(top_clip < len(labels) and bool((labels[top_clip] >= min_rating).any()))
    return np.array(hits, dtype=np.float64)


def highlight_precisions(
    scores: Sequence[np.ndarray], ratings: Sequence[np.ndarray], min_rating: float
) -> np.ndarray:
    """Compute the average precision of the clip scores for each query and annotator.

    It is the mean of the interpolated precision (the best at this or a lower threshold) over the
    thresholds that add a highlight, as in QVHighlights' evaluator, after that of Video2GIF. Clips
    with equal scores form one step, however many highlights they contain. An annotator without a
    highlight counts 0. Scores beyond the annotated clips are cut off; missing ones are 0.

    Args:
        scores: for each query `(clips,)`, higher is better.
        ratings: for each query `(clips, annotators)`, as of `clip_ratings`; the same number of
            annotators for all.
        min_rating: lowest rating of a highlight, see `LEVELS`.

    Returns:
        `(Q, annotators)` in [0, 1].

    Raises:
        ShapeError: scores and ratings differ in number, or have other shapes.
        UsageError: no queries, a query without clips or scores, a score that is not finite, or a
            rating that is NaN.
    """
    pairs = _validate_pairs(scores, ratings)
    parts = (pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK))
    return np.concatenate([_interpolated_precisions(part, min_rating) for part in parts])


def _interpolated_precisions(
    pairs: list[tuple[np.ndarray, np.ndarray]], min_rating: float
) -> np.ndarray:
    """Return `(Q, annotators)` average precisions.

    Args:
        pairs: `(clips,)` scores and `(clips, annotators)` ratings of each query.
        min_rating: lowest rating of a highlight.
    """
    lengths = np.array([len(labels) for _, labels in pairs])
    values = np.full((len(pairs), lengths.max()), -np.inf)
    is_highlight = np.zeros((*values.shape, pairs[0][1].shape[1]), dtype=bool)
    for query, (clip_scores, labels) in enumerate(pairs):
        values[query, : len(labels)] = 0.0
        values[query, : min(len(clip_scores), len(labels))] = clip_scores[: len(labels)]
        is_highlight[query, : len(labels)] = labels >= min_rating
    order = np.argsort(-values, axis=1, kind="stable")
    descending = np.take_along_axis(values, order, axis=1)
    # Clips with equal scores are one step: only the count at the last of them is used.
    is_last_of_tie = np.append(
        descending[:, 1:] != descending[:, :-1], np.full((len(pairs), 1), True), axis=1
    )
    is_last_of_tie &= np.isfinite(descending)
    num_hits = (
        np.take_along_axis(is_highlight, order[:, :, None], axis=1).cumsum(axis=1)
        * is_last_of_tie[:, :, None]
    )
    precision = num_hits / np.arange(1, values.shape[1] + 1)[:, None]
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    steps = np.diff(np.maximum.accumulate(num_hits, axis=1), axis=1, prepend=0) > 0
    return (interpolated * steps).sum(axis=1) / np.maximum(steps.sum(axis=1), 1)


def _validate_pairs(
    scores: Sequence[np.ndarray], ratings: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    if len(scores) != len(ratings):
        raise ShapeError(f"clip scores of {len(scores)} queries, but ratings of {len(ratings)}")
    if not len(ratings):
        raise UsageError("no queries to evaluate highlights on")
    pairs = [
        (np.asarray(s, dtype=np.float64), np.asarray(r, dtype=np.float64))
        for s, r in zip(scores, ratings, strict=True)
    ]
    for number, (clip_scores, labels) in enumerate(pairs):
        if clip_scores.ndim != 1 or labels.ndim != 2 or labels.shape[1] != pairs[0][1].shape[1]:
            raise ShapeError(
                f"query {number} has scores {clip_scores.shape} and ratings {labels.shape}; "
                "expected (clips,) and (clips, annotators)"
            )
        if not clip_scores.size or not labels.size:
            raise UsageError(
                f"query {number} has {len(clip_scores)} scores and {len(labels)} clips: both "
                f"must be at least 1"
            )
        if not np.isfinite(clip_scores).all() or np.isnan(labels).any():
            raise UsageError(
                f"query {number} has a score that is not finite, or a rating that is NaN"
            )
    return pairs
