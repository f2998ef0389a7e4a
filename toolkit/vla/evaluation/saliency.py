"""Clips of rated queries: their number, ratings and scores, for tables and submissions alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.datasets.base import Saliency
from vla.datasets.qvhighlights import CLIP_SECONDS
from vla.errors import UsageError
from vla.evaluation.predictions import CorpusPredictions, clip_frames
from vla.metrics.highlights import clip_count, clip_ratings


def with_saliency_ratings(queries: Sequence[Query]) -> list[int]:
    """Return the positions of the queries of QVHighlights' table.

    These have clip ratings, by the largest number of annotators of any query.
    """
    rows = [i for i, q in enumerate(queries) if _has_ratings(q)]
    num_annotators = [len(_saliency(queries[i]).scores[0]) for i in rows]
    return [i for i, n in zip(rows, num_annotators, strict=True) if n == max(num_annotators)]


def clip_ratings_of(queries: Sequence[Query], corpus: Corpus) -> list[np.ndarray]:
    """Return for each query `(clips, annotators)` ratings of the clips of its video.

    Raises:
        UsageError: a query without ratings, or too many clips.
    """
    ratings = []
    for query in queries:
        saliency = _saliency(query)
        ratings.append(clip_ratings(_num_clips(query, corpus), saliency.clips, saliency.scores))
    return ratings


def clip_scores(
    predictions: CorpusPredictions, query: Query, frame_saliency: np.ndarray | None = None
) -> np.ndarray:
    """Return `(clips,)` a score for each clip of the query's video.

    Args:
        predictions: of the corpus.
        query: with or without ratings.
        frame_saliency: `(T,)` saliency of the frames by a head: a clip has the mean of its frames.
            None: a clip has the cosine of the mean direction of its frames with the query.

    Raises:
        UsageError: too many clips.
    """
    clips = _num_clips(query, predictions.corpus)
    if frame_saliency is None:
        return predictions.clip_scores(query, clips, _clip_seconds(query))
    video = predictions.corpus.videos[query.video]
    rows_of_clips = clip_frames(video, clips, _clip_seconds(query))
    return np.array([frame_saliency[rows].mean() for rows in rows_of_clips], np.float64)


def _num_clips(query: Query, corpus: Corpus) -> int:
    """Return the number of whole clips in the video of a query, and at least up to the last rated.

    The duration is that of the annotations, as in QVHighlights' evaluator, or else of the features.
    """
    duration = query.annotation.duration if query.annotation else None
    seconds = duration or corpus.videos[query.video].duration_seconds
    last = _saliency(query).clips[-1] if _has_ratings(query) else 0
    return clip_count(seconds, _clip_seconds(query), last)


def _clip_seconds(query: Query) -> float:
    return _saliency(query).clip_seconds if _has_ratings(query) else CLIP_SECONDS


def _has_ratings(query: Query) -> bool:
    return bool(query.annotation and query.annotation.saliency and query.annotation.saliency.clips)


def _saliency(query: Query) -> Saliency:
    saliency = query.annotation.saliency if query.annotation else None
    if saliency is None:
        raise UsageError(
            f"no clip ratings for {query.text[:80]!r}: highlights need queries with ratings"
        )
    return saliency
