"""Calibration of an index: centers of videos and queries, and false-positive rates.

Similarities to the centers say nothing about a query, and make hubs: segments that are similar to
every query (Suzuki et al., "Centering similarity measures to reduce hubs", EMNLP 2013). They are
removed from both sides. The scores that unrelated queries reach are a sample of the null
distribution of search scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import CacheError, ShapeError, UsageError
from vla.hints import Hint
from vla.indexing.search_index import SearchIndex
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.duration_prior import DurationRange
from vla.retrieval.query_bank import QueryBank

VIDEO_WEIGHT = 0.15
"""Weight of the whole video beside its best segment in the score of a video. Half and twice the
weight find as much (`tests/benchmarks/real_search.py --part weights`)."""
_EPSILON = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Query-independent statistics of an index, and of a bank of queries.

    Attributes:
        video_center: `(E,)` float32. Mean of the unit vectors of whole videos, times
            `(V - 1) / V`, so that a single video is not centered at all.
        query_center: `(E,)` float32. Mean of the unit vectors of the bank.
        row_norms: `(N,)` float32. Distance of each row of the index from `video_center`.
        null_scores: `(B,)` float32, ascending. Highest score of each query of the bank with a video
            that it does not describe.
        duration_range: duration range of moments, estimated from captions; None if there are too
            few.
    """

    video_center: np.ndarray
    query_center: np.ndarray
    row_norms: np.ndarray
    null_scores: np.ndarray
    duration_range: DurationRange | None = None

    def confidence(self, scores: np.ndarray) -> np.ndarray:
        """Return 1 minus the estimated false-positive rate of each score, in [0, 1].

        Of unrelated queries similar to those of the bank, at most a share `p` reaches a confidence
        of `1 - p` or more, on average over banks (conformal p-values: Vovk et al. 2005). There is
        no guarantee for other queries.
        """
        counts = len(self.null_scores) - np.searchsorted(
            self.null_scores, np.asarray(scores, np.float32), side="left"
        )
        confidence: np.ndarray = 1 - (1 + counts) / (1 + len(self.null_scores))
        return confidence

    def check_max_fpr(self, max_fpr: float) -> None:
        """Raise UsageError if the bank is too small to estimate a false-positive rate as low as
        `max_fpr`.
        """
        lowest = 1 / (1 + len(self.null_scores))
        if not 0 < max_fpr <= 1 or max_fpr < lowest:
            raise UsageError(
                f"invalid maximum false-positive rate {max_fpr}: {len(self.null_scores)} "
                f"reference queries can estimate "
                f"rates from {lowest:.4f} to 1"
            )


@dataclass(frozen=True)
class CenteredQuery:
    """A query as it is compared with the rows and frames of an index.

    Attributes:
        vector: `(E,)`, a unit vector if it was centered.
        center: `(E,)` center of the videos; zero if they are not centered.
        row_norms: `(N,)` distance of each row of the index from the center; None if they are not
            centered.
        video_weight: weight of the whole video in the score of a video.
    """

    vector: np.ndarray
    center: np.ndarray
    row_norms: np.ndarray | None
    video_weight: float

    @classmethod
    def of(
        cls,
        vector: np.ndarray,
        calibration: Calibration | None,
        is_text: bool = True,
        total_weight: float = 1.0,
    ) -> CenteredQuery:
        """Return the query with vector `(E,)`, centered if there is a calibration.

        An image query is not centered, because the calibration is one of texts, and looks for a
        moment like the image alone.

        Args:
            vector: the weighted sum of the unit vectors of one or several texts, or an image.
            calibration: statistics of the index; None if they are unknown.
            is_text: whether the query consists of texts.
            total_weight: sum of the weights of the texts.
        """
        weight = VIDEO_WEIGHT if is_text else 0.0
        if calibration is None or not is_text:
            return cls(vector, np.zeros(len(vector), np.float32), None, weight)
        centered = center_queries(vector[None], total_weight * calibration.query_center)[0]
        return cls(centered, calibration.video_center, calibration.row_norms, weight)

    def score_rows(self, products: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the centered cosines `(n,)` of rows of the index with these inner products."""
        if self.row_norms is None:
            return np.asarray(products, np.float64)
        scores: np.ndarray = (np.asarray(products, np.float64) - self._offset) / np.maximum(
            self.row_norms[rows], _EPSILON
        )
        return scores

    def score_at_mean_distance(self, product: float) -> float:
        """Return the similarity of a row with this inner product and the mean distance."""
        if self.row_norms is None:
            return product
        return (product - self._offset) / max(float(self.row_norms.mean()), _EPSILON)

    def score_frames(self, frames: np.ndarray) -> np.ndarray:
        """Return the centered cosines `(T,)` of unit vectors `(T, E)`."""
        products = frames @ self.vector
        if self.row_norms is None:
            return np.asarray(products, np.float64)
        norms = distances(frames, self.center)
        return np.asarray((products - self._offset) / np.maximum(norms, _EPSILON), np.float64)

    @property
    def _offset(self) -> float:
        return float(self.vector @ self.center)


def video_score(best: ArrayLike, whole: ArrayLike, weight: float = VIDEO_WEIGHT) -> np.ndarray:
    """Return the score of videos whose best segments and whole videos have these similarities."""
    return np.asarray(best, np.float64) + weight * np.asarray(whole, np.float64)


def center_queries(vectors: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return `(Q, E)` float32, unit vectors of the differences of `vectors` to `center` `(E,)`."""
    differences = np.asarray(vectors, np.float64) - center
    norms = np.linalg.norm(differences, axis=1, keepdims=True)
    return (differences / np.maximum(norms, _EPSILON)).astype(np.float32)


def distances(vectors: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return `(n,)` float32, the distances of `vectors` `(n, E)` to `center` `(E,)`."""
    return np.linalg.norm(vectors - center[None], axis=1).astype(np.float32)


def calibrate_index(
    index: SearchIndex, bank: QueryBank, vectors: np.ndarray, progress: ProgressCallback = silent
) -> Calibration:
    """Estimate the statistics of `index` from the texts of `bank`, whose unit vectors are `vectors`
    `(B, E)`.

    Queries are not compared with the videos that they describe.

    Raises:
        ShapeError: the bank has fewer than 2 queries, or one that describes every video.
        CacheError: a vector of the index is not finite.
    """
    by_video = calibrate(lambda: _segments(index, progress), vectors, bank.queries_of(index.videos))
    # Rows of deleted videos, of number -1, come first in this order; no search returns them.
    norms = np.ones(len(index.video_of_row), np.float32)
    order = np.argsort(index.video_of_row, kind="stable")
    norms[order[len(norms) - len(by_video.row_norms) :]] = by_video.row_norms
    return Calibration(by_video.video_center, by_video.query_center, norms, by_video.null_scores)


def _segments(index: SearchIndex, progress: ProgressCallback) -> Iterator[np.ndarray]:
    """Yield the vectors `(n, E)` of each video in order, the whole video first.

    Raises CacheError if they are not finite.
    """
    count = 0
    for part in index.parts:
        order = np.argsort(part.video_of_row, kind="stable")
        starts = np.searchsorted(part.video_of_row[order], np.arange(len(part.videos) + 1))
        for position, name, _ in part.live_videos():
            vectors = np.asarray(
                part.vectors[order[starts[position] : starts[position + 1]]], np.float32
            )
            if not np.isfinite(vectors).all():
                raise CacheError(f"the index holds no numbers for {name!r}", hint=Hint("index"))
            count += 1
            progress(Progress("search", count, len(index.videos)))
            yield vectors


def calibrate(
    read_videos: Callable[[], Iterable[np.ndarray]],
    bank: np.ndarray,
    exclude: Sequence[Sequence[int]] | None = None,
) -> Calibration:
    """Estimate the statistics of an index from the vectors of its segments and of a query bank.

    Args:
        read_videos: returns for each video `(n, E)`, unit vectors of its segments in the order of
            the rows of the index, the whole video first. It is called twice.
        bank: `(B, E)` unit vectors of the queries.
        exclude: for each video, numbers of the queries that describe it; they are not compared with
            it.

    Raises:
        ShapeError: the bank has fewer than 2 queries, or one that describes every video.
    """
    if len(bank) < 2:
        raise ShapeError(f"a calibration needs at least 2 queries, not {len(bank)}")
    query_center = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
    queries = center_queries(bank, query_center)
    total, count = np.zeros(bank.shape[1]), 0
    for segments in read_videos():
        total, count = total + segments[0], count + 1
    video_center = (total * (count - 1) / max(1, count) ** 2).astype(np.float32)
    null_scores = np.full(len(bank), -np.inf)
    norms = []
    for number, segments in enumerate(read_videos()):
        norms.append(distances(segments, video_center))
        centered = (segments - video_center) / np.maximum(norms[-1], _EPSILON)[:, None]
        similarities = centered.astype(np.float32) @ queries.T
        scores = video_score(similarities.max(axis=0), similarities[0])
        if exclude is not None:
            scores[list(exclude[number])] = -np.inf
        null_scores = np.maximum(null_scores, scores)
    if not np.isfinite(null_scores).all():
        excluded = int((~np.isfinite(null_scores)).sum())
        raise ShapeError(f"{excluded} queries of the bank describe every video of the index")
    return Calibration(
        video_center,
        query_center,
        np.concatenate(norms),
        np.sort(null_scores).astype(np.float32),
    )
