"""Calibration of an index: centers of videos and queries, and false-positive rates.

Similarities to the centers say nothing about a query, and make hubs: segments that are similar to
every query (Suzuki et al., "Centering similarity measures to reduce hubs", EMNLP 2013). They are
removed from both sides. The scores that unrelated queries reach are a sample of the null
distribution of search scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import UsageError
from vla.localization.duration_range import DurationRange

EPSILON = 1e-6
"""Lowest norm that is divided by."""


@dataclass(frozen=True)
class Calibration:
    """Query-independent statistics of an index, and of a bank of queries.

    Attributes:
        video_center: `(E,)` float32. Mean over the videos of the mean of their unit frames, times
            `(V - 1) / V`, so that a single video is not centered at all.
        query_center: `(E,)` float32. Mean of the unit vectors of the bank, times `1 - (1 - s)**2`,
            where `s` is its squared length, the share that all texts have in common. All of it is
            removed where texts and images lie apart, as with CLIP (`s` is 0.74). A sentence encoder
            has no such gap (0.1), and the mean is the topic of the bank.
        row_norms: `(N,)` float32. Distance of each row of the index from `video_center`.
        mean_norms: `(V,)` float32. Length of the mean of the unit frames of each video.
        null_scores: `(B,)` float32, ascending. Highest score of each query of the bank with a video
            that it does not describe.
        video_weight: weight of the mean frame of a video in its score; see
            `calibration_estimate`.
        duration_range: duration range of moments, estimated from captions; None if there are too
            few.
    """

    video_center: np.ndarray
    query_center: np.ndarray
    row_norms: np.ndarray
    mean_norms: np.ndarray
    null_scores: np.ndarray
    video_weight: float
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
        calibration: statistics of the index; None if the query is not centered.
    """

    vector: np.ndarray
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls,
        vector: np.ndarray,
        calibration: Calibration | None,
        total_weight: float = 1.0,
    ) -> CenteredQuery:
        """Return the query with vector `(E,)`, centered if there is a calibration.

        Args:
            vector: the weighted sum of the unit vectors of one or several texts, or an image.
            calibration: statistics of the index; None if they are unknown, and for images, because
                they are statistics of texts.
            total_weight: sum of the weights of the texts.
        """
        if calibration is None:
            return cls(vector)
        center = total_weight * calibration.query_center
        return cls(center_queries(vector[None], center)[0], calibration)

    def score_rows(self, products: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the centered cosines `(n,)` of rows of the index with these inner products."""
        values = np.asarray(products, np.float64)
        if self.calibration is None:
            return values
        norms = np.maximum(self.calibration.row_norms[rows], EPSILON)
        scores: np.ndarray = (values - self._offset) / norms
        return scores

    def score_at_mean_distance(self, product: float) -> float:
        """Return the similarity of a row with this inner product and the mean distance."""
        if self.calibration is None:
            return product
        norm = max(float(self.calibration.row_norms.mean()), EPSILON)
        return (product - self._offset) / norm

    def score_frames(self, frames: np.ndarray) -> np.ndarray:
        """Return the centered cosines `(T,)` of unit vectors `(T, E)`."""
        products = np.asarray(frames @ self.vector, np.float64)
        if self.calibration is None:
            return products
        norms = np.maximum(distances(frames, self.calibration.video_center), EPSILON)
        scores: np.ndarray = (products - self._offset) / norms
        return scores

    def score_videos(
        self, best: np.ndarray, products: np.ndarray, videos: np.ndarray
    ) -> np.ndarray:
        """Return the scores `(n,)` of videos.

        Args:
            best: `(n,)` the highest similarity of their rows.
            products: `(n,)` inner products of the vectors of the whole videos.
            videos: `(n,)` their numbers in the index.
        """
        if self.calibration is None:
            return np.asarray(best, np.float64)
        means = self.calibration.mean_norms[videos] * np.asarray(products, np.float64)
        return self._score(best, means)

    def score_span(self, frames: np.ndarray, first: int, last: int) -> float:
        """Return the score of a video `(T, E)` whose best segment is frames `first` to `last`."""
        similarity = self.score_frames(frames)[first:last].mean()
        if self.calibration is None:
            return float(similarity)
        return float(self._score(similarity, frames.mean(0) @ self.vector))

    def bound_score(self, similarity: float) -> float:
        """Return an estimate of the highest score of a video of which no row is more similar than
        this: its mean frame may be as similar, at the largest distance of any row.
        """
        if self.calibration is None:
            return similarity
        distance = float(self.calibration.row_norms.max(initial=0.0))
        return similarity + self.calibration.video_weight * distance * max(0.0, similarity)

    def _score(self, best: ArrayLike, means: ArrayLike) -> np.ndarray:
        assert self.calibration is not None
        whole = np.asarray(means, np.float64) - self._offset
        return np.asarray(best, np.float64) + self.calibration.video_weight * whole

    @property
    def _offset(self) -> float:
        assert self.calibration is not None
        return float(self.vector @ self.calibration.video_center)


def center_queries(vectors: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return `(Q, E)` float32, unit vectors of the differences of `vectors` to `center` `(E,)`."""
    differences = np.asarray(vectors, np.float64) - center
    norms = np.linalg.norm(differences, axis=1, keepdims=True)
    return (differences / np.maximum(norms, EPSILON)).astype(np.float32)


def distances(vectors: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return `(n,)` float32, the distances of `vectors` `(n, E)` to `center` `(E,)`."""
    return np.linalg.norm(vectors - center[None], axis=1).astype(np.float32)
