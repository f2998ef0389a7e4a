"""Moment localization in one video, by its similarity curve or by a trained head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla.features import FrameFeatures
from vla.heads.base import LocalizationBatch
from vla.localization.duration_range import ANY_DURATION, DurationRange
from vla.localization.similarity_curve import SimilarityCurve
from vla.model import AlignmentModel, length_buckets
from vla.retrieval.calibration import CenteredQuery
from vla.spans import iou, nms

_NUM_CURVE_MOMENTS = 50
"""Number of moments of the curve beside those of a head."""
_DURATION_FACTOR = 1.5
"""Factor by which a head's moment may lie outside the duration range."""
_MIN_PROBABILITY, _MIN_SHARE = 1e-3, 0.02
"""Lowest probability and lowest share of the excess that count, so that neither head nor curve alone
can rule out a moment."""
_MAX_IOU, _MAX_NESTING = 0.3, 0.5
"""Of two moments of a head with a higher IoU, or with a higher share of the shorter one in common,
the better one is kept."""


@dataclass(frozen=True)
class SegmentScores:
    """Similarities of the segments of a video to one query.

    Attributes:
        spans: `(N, 2)` seconds.
        similarities: `(N,)`.
        score: score of the video.
        duration_range: range of the moments to find.
    """

    spans: np.ndarray
    similarities: np.ndarray
    score: float
    duration_range: DurationRange = ANY_DURATION


@dataclass(frozen=True)
class Moments:
    """Moments of one video, best first.

    Attributes:
        spans: `(N, 2)` seconds.
        scores: `(N,)` ranking scores, comparable across videos. The best moment has the score of the
            video, the others less: a moment without any excess would score as if the curve rose
            nowhere above its mean.
        peaks: `(N,)` seconds, the times of the best frames.
    """

    spans: np.ndarray
    scores: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True)
class HeadPredictions:
    """Moments that a head predicts in one video for one query, most probable first.

    Attributes:
        spans: `(N, 2)` seconds; empty if it predicts none.
        probabilities: `(N,)`.
    """

    spans: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class MomentLocalizer:
    """Localizer of moments within a video.

    The moments of a video do not depend on the other videos of a batch.

    Attributes:
        model: the model that is searched with; its heads are not used.
        head_model: the same model at the alpha of the heads; None without a head for
            moments.
    """

    model: AlignmentModel
    head_model: AlignmentModel | None

    @classmethod
    def of(cls, model: AlignmentModel) -> MomentLocalizer:
        """Return a localizer with the head for moments of `model`, if it has one."""
        if all(head.task != "moments" for head in model.heads.values()):
            return cls(model, None)
        head_model = copy.deepcopy(model).eval()
        head_model.projector.alpha.copy_(model.head_alpha)
        return cls(model, head_model)

    def predict(
        self,
        videos: Sequence[tuple[FrameFeatures, np.ndarray]],
        raw: np.ndarray,
        duration_range: DurationRange = ANY_DURATION,
    ) -> list[HeadPredictions]:
        """Return the predictions of the head for each of `videos`, batched by length.

        Empty ones without a head.

        Args:
            videos: features, and their unit frames `(T, E)` as aligned by `head_model`.
            raw: `(D,)` raw text feature of the query.
            duration_range: range outside of which predictions are dropped.
        """
        predictions: list[HeadPredictions] = [HeadPredictions(np.zeros((0, 2)), np.zeros(0))] * len(
            videos
        )
        if self.head_model is None:
            return predictions
        for numbers in length_buckets([len(frames) for _, frames in videos]):
            batch = _run_head(self.head_model, [videos[i] for i in numbers], raw)
            for number, rows in zip(numbers, batch, strict=True):
                seconds = rows[:, 1] - rows[:, 0]
                rows = rows[(seconds >= duration_range[0]) & (seconds <= duration_range[1])]
                predictions[number] = HeadPredictions(rows[:, :2], rows[:, 2])
        return predictions

    def localize(
        self,
        features: FrameFeatures | None,
        frames: np.ndarray,
        query: CenteredQuery,
        segments: SegmentScores,
        max_moments: int,
        predictions: HeadPredictions | None = None,
    ) -> Moments:
        """Return at most `max_moments` moments of a video.

        Moments of the similarity curve are disjoint. Those of a head overlap no other by an IoU
        above 0.3, or by over half of the shorter one; the curve and the probabilities decide
        together.

        Args:
            features: features of the video; None if it left the cache: then its best segment is the
                only moment.
            frames: `(T, E)` its unit frames.
            query: the query.
            segments: all segments of the video.
            max_moments: maximum number of moments.
            predictions: predictions of the head; None if it was not run.
        """
        if features is None:
            spans = segments.spans[[int(segments.similarities.argmax())]]
            return Moments(spans, np.array([segments.score]), spans[:, 0])
        similarities = query.score_frames(frames)
        curve = SimilarityCurve(
            similarities, features.timestamps_seconds, features.duration_seconds
        )
        if predictions is None or not len(predictions.spans):
            spans, shares = curve.moments(max_moments, segments.duration_range)
        else:
            spans, shares = _moments_of_head(
                predictions, curve, segments.duration_range, max_moments
            )
        scores = segments.score - curve.rise * (1 - shares)
        return Moments(spans, scores, peaks_of(features, similarities, spans))


def _moments_of_head(
    predictions: HeadPredictions,
    curve: SimilarityCurve,
    duration_range: DurationRange,
    max_moments: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best moments of a head and of a curve, and their shares, weighted by both.

    A head knows the bounds of moments in videos like those of its training; the curve knows where
    in a much longer video to look.
    """
    shortest, longest = duration_range
    seconds = predictions.spans[:, 1] - predictions.spans[:, 0]
    fits = (seconds >= shortest / _DURATION_FACTOR) & (seconds <= longest * _DURATION_FACTOR)
    spans = np.concatenate(
        [predictions.spans[fits], curve.moments(_NUM_CURVE_MOMENTS, duration_range)[0]]
    )
    probabilities = (iou(spans, predictions.spans) * predictions.probabilities).max(axis=1)
    shares = np.maximum(probabilities, _MIN_PROBABILITY) * np.sqrt(
        np.maximum(curve.shares(spans, duration_range), _MIN_SHARE)
    )
    rows = nms(spans, shares, _MAX_IOU, max_moments, _MAX_NESTING)
    return spans[rows], shares[rows] / shares[rows[0]]


def _run_head(
    model: AlignmentModel, videos: Sequence[tuple[FrameFeatures, np.ndarray]], raw: np.ndarray
) -> list[np.ndarray]:
    """Return, for each video with aligned frames, `(N, 3)`.

    Start, end and probability of the moments of the head.
    """
    import torch

    head = next(h for h in model.heads.values() if h.task == "moments")
    features, frames = zip(*videos, strict=True)
    with torch.no_grad():
        # The bits of a product depend on its shape: a copy of the text for each video keeps results
        # independent of the size of the batch.
        texts = model.align_texts(np.repeat(raw[None], len(videos), 0))
        batch = LocalizationBatch.from_videos(
            features=features, frames=frames, texts=texts, scale=model.scale
        )
        return [
            np.asarray(output.moments, np.float64).reshape(-1, 3) for output in head.localize(batch)
        ]


def peaks_of(features: FrameFeatures, curve: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return `(N,)` seconds: the time of the frame in each span with the highest value in `curve`
    `(T,)`.

    The start of the span if it contains no frame.
    """
    times = features.timestamps_seconds
    peaks = []
    for start, end in spans:
        inside = np.flatnonzero((times >= start) & (times < end))
        peaks.append(float(times[inside[curve[inside].argmax()]]) if len(inside) else float(start))
    return np.array(peaks)
