"""Moments by the scores of windows and by the similarity curve, and the values of the metrics for
each query.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.evaluation.predictions import CorpusPredictions
from vla.features import FrameFeatures
from vla.localization.similarity_curve import SimilarityCurve
from vla.metrics.average_precision import average_precisions
from vla.metrics.moments import best_ious
from vla.spans import nms

NUM_MOMENTS = 10


def curve_moments(similarities: np.ndarray, video: FrameFeatures) -> np.ndarray:
    """`(N, 3)` start, end and score of the best moments of a curve `(T,)`, by the localizer of `vla search`."""
    curve = SimilarityCurve(similarities, video.timestamps_seconds, video.duration_seconds)
    spans, shares = curve.moments(NUM_MOMENTS)
    return np.column_stack([spans, shares])


def moments_by_curve(predictions: CorpusPredictions) -> list[np.ndarray]:
    """Moments of each timed caption in its own video, by the curve of its cosines with the frames."""
    videos = predictions.corpus.videos
    return [
        curve_moments(curve, videos[query.video])
        for query, curve in zip(predictions.timed_queries, cosine_curves(predictions), strict=True)
    ]


def cosine_curves(predictions: CorpusPredictions) -> list[np.ndarray]:
    """For each timed caption `(T,)` cosines with the frames of its video."""
    queries = predictions.timed_queries
    texts = predictions.query_vectors(queries)
    return [predictions.frames[q.video] @ text for q, text in zip(queries, texts, strict=True)]


def windows(predictions: CorpusPredictions, texts: np.ndarray) -> list[np.ndarray]:
    """For each timed caption, of vector `texts[i]`, the windows of its video by their cosine, as an index lists them."""
    by_query = []
    for query, text in zip(predictions.timed_queries, texts, strict=True):
        segments = predictions.segments[query.video]
        scores = segments.vectors @ text
        rows = nms(segments.spans, scores, 0.5, most=NUM_MOMENTS)
        by_query.append(np.column_stack([segments.spans[rows], scores[rows]]))
    return by_query


def moment_values(
    queries: Sequence[Query], predictions: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """By measure, in percent, the value of each query: `R1@0.5`, `R1@0.7`, `mAP` and `mIoU`."""
    truths = [q.spans for q in queries]
    ious = best_ious(predictions, truths, 1)
    return {
        "R1@0.5": 100.0 * (ious >= 0.5),
        "R1@0.7": 100.0 * (ious >= 0.7),
        "mAP": 100.0 * average_precisions(predictions, truths).mean(axis=1),
        "mIoU": 100.0 * ious,
    }


def paragraphs(corpus: Corpus) -> list[Query]:
    """All timed captions of each video as one query of several chunks, in their order."""
    by_video: dict[int, list[Query]] = {}
    timed_queries = [q for q in corpus.queries if q.is_timed]
    for query in sorted(timed_queries, key=lambda q: (q.video, q.spans[0, 0])):
        by_video.setdefault(query.video, []).append(query)
    joined = []
    for video, queries in by_video.items():
        text = " ".join(q.text for q in queries)
        chunks = tuple(chunk for q in queries for chunk in q.chunks)
        joined.append(Query(text, chunks, chunks, video, np.zeros((0, 2))))
    return joined
