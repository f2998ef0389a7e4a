"""Highlight metrics: how well scores of a video's clips tell which of them people found worth seeing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

LEVELS = {"Fair": 2.0, "Good": 3.0, "VeryGood": 4.0}
"""QVHighlights: the least rating, of 0 to 4, that makes a clip a highlight. Tables quote Very Good."""

MOST_CLIPS = 100_000
"""55 hours in QVHighlights' clips of 2 s."""
# Queries looked at together: they bound the memory.
_TOGETHER = 1024


def clip_count(duration_seconds: float, clip_seconds: float, last_rated: int) -> int:
    """How many clips of `clip_seconds` a video has: all whole ones, and at least those up to the last that was rated.

    Raises:
        UsageError: more than MOST_CLIPS; their number comes from a file, and every clip takes memory and time.
    """
    count = max(int(duration_seconds / clip_seconds), last_rated + 1)
    if count > MOST_CLIPS:
        raise UsageError(
            f"{count:,} clips of {clip_seconds:g} s in a video of {duration_seconds:g} s, rated up to clip {last_rated:,}: "
            f"at most {MOST_CLIPS:,} can be measured; leave this video or its ratings out"
        )
    return count


def clip_ratings(num_clips: int, clips: ArrayLike, ratings: ArrayLike) -> np.ndarray:
    """`(num_clips, annotators)`: the ratings of every clip of a video, 0 for the clips that nobody rated.

    Args:
        num_clips: of the video, QVHighlights: the whole number of 2 s clips in its duration.
        clips: `(R,)`, numbers of the clips that were rated.
        ratings: `(R, annotators)`.

    Raises:
        ShapeError: not one row of ratings for each clip.
        UsageError: a clip that the video does not have.
    """
    where, rated = np.asarray(clips, dtype=np.int64), np.asarray(ratings, dtype=np.float64)
    if where.ndim != 1 or rated.ndim != 2 or len(where) != len(rated):
        raise ShapeError(f"{where.shape} clips need one row of ratings each, not ratings of shape {rated.shape}")
    if len(where) and not 0 <= where.min() <= where.max() < num_clips:
        raise UsageError(f"clips {where.min()} to {where.max()} were rated but the video has {num_clips}")
    every = np.zeros((num_clips, rated.shape[1]))
    every[where] = rated
    return every


def highlight_hits(scores: Sequence[np.ndarray], ratings: Sequence[np.ndarray], least: float) -> np.ndarray:
    """`(Q,)` 0 or 1: whether any annotator rates the clip with the highest score, of equal ones the first, as highlight.

    A clip beyond those that were annotated is a miss. Arguments and errors as `highlight_precisions`.
    """
    hits = []
    for predicted, rated in _checked(scores, ratings):
        best = int(predicted.argmax())
        hits.append(best < len(rated) and bool((rated[best] >= least).any()))
    return np.array(hits, dtype=np.float64)


def highlight_precisions(scores: Sequence[np.ndarray], ratings: Sequence[np.ndarray], least: float) -> np.ndarray:
    """Average precision of the clips' scores, for every query and annotator.

    The mean of the interpolated precision (the best at this or a lower threshold) over the thresholds that add a
    highlight, as in QVHighlights' evaluator, after that of Video2GIF: clips of one score are one step, however many
    highlights they hold. An annotator who saw no highlight counts 0. Scores beyond the annotated clips are cut off,
    missing ones are 0.

    Args:
        scores: for every query `(clips,)`, higher is better.
        ratings: for every query `(clips, annotators)`, as of `clip_ratings`; all of as many annotators.
        least: a highlight is rated so or better, see `LEVELS`.

    Returns:
        `(Q, annotators)` in [0, 1].

    Raises:
        ShapeError: scores and ratings are not as many, or not of those shapes.
        UsageError: no queries, a query without clips or scores, a score that is not finite, or a rating that is NaN.
    """
    pairs = _checked(scores, ratings)
    parts = (pairs[start : start + _TOGETHER] for start in range(0, len(pairs), _TOGETHER))
    return np.concatenate([_interpolated_precisions(part, least) for part in parts])


def _interpolated_precisions(pairs: list[tuple[np.ndarray, np.ndarray]], least: float) -> np.ndarray:
    """`(Q, annotators)`. pairs: `(clips,)` scores and `(clips, annotators)` ratings of every query."""
    lengths = np.array([len(rated) for _, rated in pairs])
    values = np.full((len(pairs), lengths.max()), -np.inf)
    highlight = np.zeros((*values.shape, pairs[0][1].shape[1]), dtype=bool)
    for query, (predicted, rated) in enumerate(pairs):
        values[query, : len(rated)] = 0.0
        values[query, : min(len(predicted), len(rated))] = predicted[: len(rated)]
        highlight[query, : len(rated)] = rated >= least
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    # Clips of one score are one step: only what is found up to the last of them counts.
    last = np.append(ordered[:, 1:] != ordered[:, :-1], np.full((len(pairs), 1), True), axis=1)
    last &= np.isfinite(ordered)
    found = np.take_along_axis(highlight, order[:, :, None], axis=1).cumsum(axis=1) * last[:, :, None]
    precision = found / np.arange(1, values.shape[1] + 1)[:, None]
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    steps = np.diff(np.maximum.accumulate(found, axis=1), axis=1, prepend=0) > 0
    return (interpolated * steps).sum(axis=1) / np.maximum(steps.sum(axis=1), 1)


def _checked(scores: Sequence[np.ndarray], ratings: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    if len(scores) != len(ratings):
        raise ShapeError(f"{len(scores)} queries have scores of clips but {len(ratings)} have ratings")
    if not len(ratings):
        raise UsageError("there are no queries to evaluate highlights with")
    pairs = [
        (np.asarray(s, dtype=np.float64), np.asarray(r, dtype=np.float64)) for s, r in zip(scores, ratings, strict=True)
    ]
    for number, (predicted, rated) in enumerate(pairs):
        if predicted.ndim != 1 or rated.ndim != 2 or rated.shape[1] != pairs[0][1].shape[1]:
            raise ShapeError(
                f"query {number} has scores {predicted.shape} and ratings {rated.shape}, not (clips,) and (clips, annotators)"
            )
        if not predicted.size or not rated.size:
            raise UsageError(
                f"query {number} has {len(predicted)} scores for {len(rated)} clips: it needs some of both"
            )
        if not np.isfinite(predicted).all() or np.isnan(rated).any():
            raise UsageError(f"query {number} has a score that is not finite, or a rating that is no number")
    return pairs
