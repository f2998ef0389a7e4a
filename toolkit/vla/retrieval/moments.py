"""Moment localization in one video.

Segments re-scored by similarity curve and head, with refined bounds.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla.features import FrameFeatures
from vla.heads.base import LocalizationBatch
from vla.model import AlignmentModel, length_buckets
from vla.retrieval.duration_prior import ANY_DURATION, DurationRange
from vla.retrieval.similarity_curve import SimilarityCurve
from vla.spans import iou, nms

_MIN_FRAMES = 4
"""Fewer frames give no baseline for a contrast; the scores of the segments decide alone."""
_CONTRAST_WEIGHT = 0.07
"""Weight of the contrast in the similarity curve, in units of a cosine. Cosines alone prefer short
segments; contrast alone ignores the effect of a projector. Higher values find more within collages;
lower values find more in the corpus of the rendered world (`tests/benchmarks/localisers.py choose`,
`search_world.py --parts weights`)."""
_MIN_GAIN = 0.1
"""Bounds are refined if the contrast grows by this share of the highest contrast. A grid of windows
rarely matches a moment, and change points do not either where one thing passes gradually into
another."""
_HEAD_SHARPNESS = 40.0
"""A head adds `log(p) / 40` to the cosine of a segment. `p` is the maximum, over the moments of the
head, of probability times IoU with the segment; the segment takes the bounds of that moment. XML
(Lei et al., ECCV 2020) lists the moments of the head instead, with `exp(20 s) p` of the score `s`
of their video. With the score of the segment nearest to each, these find 24 of 100 among ten on
other videos of the rendered world (IoU .5); segments re-scored by the head find 33
(`tests/benchmarks/search_world.py --parts sharpness`)."""
_MIN_HEAD_IOU = 0.5
"""IoU with a moment of the head from which a segment takes its bounds."""

_MIN_PROBABILITY = 1e-3
_DURATION_FACTOR = 2**0.5
_MAX_IOU, _MAX_NESTING = 0.3, 0.5
"""Of two moments of a video with a higher IoU, or with a higher share of the shorter one in common,
the better one is kept."""


@dataclass(frozen=True)
class SegmentScores:
    """Scores of the segments of a video for one query.

    Attributes:
        spans: `(N, 2)` seconds.
        scores: `(N,)` cosines minus hubness.
        cosine: highest cosine.
        duration_range: duration range of the moments to find.
    """

    spans: np.ndarray
    scores: np.ndarray
    cosine: float
    duration_range: DurationRange = ANY_DURATION

    def of_duration(self) -> tuple[np.ndarray, np.ndarray]:
        """Return spans and scores of the segments in the duration range, or of all segments if
        there is none.

        The range is widened by a factor of the root of two: the lengths of windows double, so one
        of them fits.
        """
        seconds = self.spans[:, 1] - self.spans[:, 0]
        shortest, longest = self.duration_range
        fits = (seconds >= shortest / _DURATION_FACTOR) & (seconds <= longest * _DURATION_FACTOR)
        return (self.spans[fits], self.scores[fits]) if fits.any() else (self.spans, self.scores)


@dataclass(frozen=True)
class Moments:
    """Moments of one video, best first.

    None overlaps another by an IoU above 0.3, or by over half of the shorter one.

    Attributes:
        spans: `(N, 2)` seconds.
        scores: `(N,)` ranking scores, comparable across videos; at most the score of the video's
            best segment.
        confidence_scores: `(N,)` highest cosine of the video, minus the gap of the moment to the
            best one of the video.
        peaks: `(N,)` seconds.
    """

    spans: np.ndarray
    scores: np.ndarray
    confidence_scores: np.ndarray
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
        head_model: the same model at the alpha that heads are trained for; None without a head for
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
        head_model.projector.alpha.fill_(1.0)
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
        query: np.ndarray,
        segments: SegmentScores,
        max_moments: int,
        predictions: HeadPredictions | None = None,
        query_mean: np.ndarray | None = None,
    ) -> Moments:
        """Return at most `max_moments` moments of a video.

        Their scores do not exceed that of the video's best segment; without a head, the best moment
        reaches it.

        Args:
            features: features of the video; None if it left the cache: then the peak of a moment is
                its start.
            frames: `(T, E)` its unit frames.
            query: `(E,)` unit vector.
            segments: all segments of the video.
            max_moments: maximum number of moments.
            predictions: predictions of the head; None if it was not run.
            query_mean: `(E,)` vector to subtract from the query before its similarity curve is
                computed; None for none.
        """
        curve, top = frames @ query, float(segments.scores.max())
        spans, scores = segments.spans, segments.scores
        if features is not None:
            contrast_curve = curve if query_mean is None else frames @ (query - query_mean)
            spans, scores = _refine(features, contrast_curve, segments, max_moments, predictions)
        rows = nms(spans, scores, _MAX_IOU, max_moments, _MAX_NESTING)
        spans, scores = spans[rows], scores[rows]
        gaps = scores - scores[0]
        peaks = spans[:, 0] if features is None else peaks_of(features, curve, spans)
        return Moments(
            spans, top + gaps if predictions is None else scores, segments.cosine + gaps, peaks
        )


def _refine(
    features: FrameFeatures,
    curve: np.ndarray,
    segments: SegmentScores,
    max_moments: int,
    predictions: HeadPredictions | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best segments in the duration range, with refined bounds and with scores that are
    not raised.
    """
    spans, scores = (values.copy() for values in segments.of_duration())
    similarity, highest, share = None, 0.0, np.zeros(len(spans))
    if len(curve) >= _MIN_FRAMES:
        similarity = SimilarityCurve(curve, features.timestamps_seconds, features.duration_seconds)
        contrasts = similarity.contrast(spans)
        highest = float(contrasts.max())
        share = np.clip(contrasts / highest, -1.0, 1.0) if highest > 0 else share
    scores = scores - _CONTRAST_WEIGHT * (1 - share)
    has_head_bounds = np.zeros(len(spans), bool)
    if predictions is not None:
        ious = iou(spans, predictions.spans)
        weights = predictions.probabilities * ious
        scores = scores + np.log(weights.max(axis=1, initial=_MIN_PROBABILITY)) / _HEAD_SHARPNESS
        if len(predictions.spans):
            likeliest = weights.argmax(axis=1)
            has_head_bounds = ious[np.arange(len(spans)), likeliest] >= _MIN_HEAD_IOU
            spans = np.where(has_head_bounds[:, None], predictions.spans[likeliest], spans)
    # Refinement may move segments onto each other, so twice as many are refined.
    rows = nms(spans, scores, _MAX_IOU, 2 * max_moments, _MAX_NESTING)
    if similarity is not None and highest > 0:
        gain, duration = _MIN_GAIN * highest, segments.duration_range
        spans[rows] = [
            spans[i] if has_head_bounds[i] else similarity.refine_bounds(spans[i], gain, duration)
            for i in rows
        ]
    return spans[rows], scores[rows]


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
