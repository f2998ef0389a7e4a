"""The moments of one video for one query: its segments, weighed by the curve of its frames, and by a head for moments."""

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

_FEW = 4
"""A curve of fewer frames has no background that a moment could stand out from: its segments are compared instead."""
_CONTRAST = 0.07
"""What standing out best in a video's curve weighs, in units of a cosine. Cosines alone prefer what is brief, standing out alone
looks past what a projector was trained on. More finds more in collages, in their video; less finds more in the corpus of the
rendered world (`tests/benchmarks/localisers.py choose`, `search_world.py --parts weights`)."""
_GAIN = 0.1
"""Ends are moved where a segment then stands out better by this share of the best: a grid of windows has no row that fits, and
where nothing cuts from one thing to another, changes have none either."""
_SHARPNESS = 40.0
"""`log(p) / 40`: what the probability `p` of a head weighs beside a cosine. Of a segment it is the highest of the head's
probabilities, each times the IoU of its moment and the segment, which then has the ends of that moment. Source: XML (Lei et al.,
ECCV 2020), where the head's moments are listed, with `exp(20 s) p` of their video's score; with the score of the segment that is
nearest to each, these find 24 of 100 among ten on other videos of the rendered world (IoU .5), and segments weighed by the
head 33 (`tests/benchmarks/search_world.py --parts sharpness`)."""
_ENDS = 0.5
"""A segment that shares this IoU with a moment of a head has its ends."""
HEAD_BATCH_SIZE = 16
"""Videos that a head is asked about at a time, the best ones first; no result depends on it."""
MAX_HEAD_VIDEOS = 16
"""A head looks into so many videos, those whose segments are best, or as many as moments are wanted; XML takes 100. 40 find one
or two more of 100 moments among ten and take twice as long, 10 find two fewer (`search_world.py --parts sharpness`)."""
_LEAST = 1e-3
_ABOUT = 2**0.5
_OVERLAP, _NESTED = 0.3, 0.5
"""Of two moments of a video that share more than this IoU, or this part of the shorter one, the better is listed."""


@dataclass(frozen=True)
class SegmentScores:
    """The segments of a video, as an index scores them for one query.

    Attributes:
        spans: `(N, 2)` seconds.
        scores: `(N,)` cosines less bias.
        cosine: the best of the cosines.
        lasting: how long what is looked for lasts.
    """

    spans: np.ndarray
    scores: np.ndarray
    cosine: float
    lasting: DurationRange = ANY_DURATION

    def fitting(self) -> tuple[np.ndarray, np.ndarray]:
        """Spans and scores of those that last about so long, all where none does.

        About, by a factor of the root of two: windows are of lengths that double, so that one of them does.
        """
        seconds = self.spans[:, 1] - self.spans[:, 0]
        least, most = self.lasting
        fits = (seconds >= least / _ABOUT) & (seconds <= most * _ABOUT)
        return (self.spans[fits], self.scores[fits]) if fits.any() else (self.spans, self.scores)


@dataclass(frozen=True)
class Moments:
    """Moments of one video, best first; no two overlap by an IoU of more than 0.3, or by more than half of the shorter one.

    Attributes:
        spans: `(N, 2)` seconds.
        scores: `(N,)` what moments of all videos are ordered by; at most the score of the video's best segment.
        certain: `(N,)` the video's best cosine, less what the moment stands behind the best of its video.
        peaks: `(N,)` seconds.
    """

    spans: np.ndarray
    scores: np.ndarray
    certain: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True)
class HeadPredictions:
    """What a head says of one video for one query, likeliest first.

    Attributes:
        spans: `(N, 2)` seconds; none where it finds nothing.
        chances: `(N,)` probabilities.
    """

    spans: np.ndarray
    chances: np.ndarray


@dataclass(frozen=True)
class MomentLocalizer:
    """Finds moments in videos; what is found in a video depends on no other video, whatever it is looked at together with.

    Attributes:
        model: as it is searched with; its heads are not asked.
        trained: the same with its dial where heads want it; None where it has no head for moments.
    """

    model: AlignmentModel
    trained: AlignmentModel | None

    @classmethod
    def of(cls, model: AlignmentModel) -> MomentLocalizer:
        """With the head for moments of `model`, if it has one."""
        if all(head.task != "moments" for head in model.heads.values()):
            return cls(model, None)
        trained = copy.deepcopy(model).eval()
        trained.projector.alpha.fill_(1.0)
        return cls(model, trained)

    def told(
        self, videos: Sequence[tuple[FrameFeatures, np.ndarray]], raw: np.ndarray, lasting: DurationRange = ANY_DURATION
    ) -> list[HeadPredictions]:
        """What the head says of each of `videos`, those of about the same length together.

        Args:
            videos: features, and their unit frames `(T, E)` as `trained` aligns them.
            raw: `(D,)` raw text feature of the query.
            lasting: of moments that last so long, and no others.
        """
        found: list[HeadPredictions] = [HeadPredictions(np.zeros((0, 2)), np.zeros(0))] * len(videos)
        if self.trained is None:
            return found
        for places in length_buckets([len(frames) for _, frames in videos]):
            rows = _run_head(self.trained, [videos[i] for i in places], raw)
            for place, listed in zip(places, rows, strict=True):
                seconds = listed[:, 1] - listed[:, 0]
                listed = listed[(seconds >= lasting[0]) & (seconds <= lasting[1])]
                found[place] = HeadPredictions(listed[:, :2], listed[:, 2])
        return found

    def find(
        self,
        features: FrameFeatures | None,
        frames: np.ndarray,
        query: np.ndarray,
        held: SegmentScores,
        most: int,
        told: HeadPredictions | None = None,
        mean: np.ndarray | None = None,
    ) -> Moments:
        """Up to `most` moments; none has a higher score than the video's best segment, whose score the best has without a head.

        Args:
            features: of the video; None if it left the cache, and then a peak is where its segment starts.
            frames: `(T, E)` its unit frames.
            query: `(E,)` unit vector.
            held: all segments of the video.
            most: moments to return.
            told: what the head says of the video; None where it was not asked.
            mean: `(E,)` what is taken from the query before its curve is drawn; None for nothing.
        """
        curve, top = frames @ query, float(held.scores.max())
        spans, scores = held.spans, held.scores
        if features is not None:
            drawn = curve if mean is None else frames @ (query - mean)
            spans, scores = _refine(features, drawn, held, most, told)
        kept = nms(spans, scores, _OVERLAP, most, _NESTED)
        spans, scores = spans[kept], scores[kept]
        behind = scores - scores[0]
        peaks = spans[:, 0] if features is None else peaks_of(features, curve, spans)
        return Moments(spans, top + behind if told is None else scores, held.cosine + behind, peaks)


def _refine(
    features: FrameFeatures, curve: np.ndarray, held: SegmentScores, most: int, told: HeadPredictions | None
) -> tuple[np.ndarray, np.ndarray]:
    """The best segments of about the length that is looked for, their ends fitted, and scores, of which none is higher."""
    spans, scores = (values.copy() for values in held.fitting())
    shown, best, share = None, 0.0, np.zeros(len(spans))
    if len(curve) >= _FEW:
        shown = SimilarityCurve(curve, features.timestamps_seconds, features.duration_seconds)
        stands = shown.contrast(spans)
        best = float(stands.max())
        share = np.clip(stands / best, -1.0, 1.0) if best > 0 else share
    scores = scores - _CONTRAST * (1 - share)
    is_told = np.zeros(len(spans), bool)
    if told is not None:
        shared = iou(spans, told.spans)
        weighed = told.chances * shared
        scores = scores + np.log(weighed.max(axis=1, initial=_LEAST)) / _SHARPNESS
        if len(told.spans):
            likeliest = weighed.argmax(axis=1)
            is_told = shared[np.arange(len(spans)), likeliest] >= _ENDS
            spans = np.where(is_told[:, None], told.spans[likeliest], spans)
    # Segments that lie apart may come to lie upon each other, so a few more are looked at.
    few = nms(spans, scores, _OVERLAP, 2 * most, _NESTED)
    if shown is not None and best > 0:
        gain = _GAIN * best
        spans[few] = [spans[i] if is_told[i] else shown.refine_bounds(spans[i], gain, held.lasting) for i in few]
    return spans[few], scores[few]


def _run_head(
    model: AlignmentModel, videos: Sequence[tuple[FrameFeatures, np.ndarray]], raw: np.ndarray
) -> list[np.ndarray]:
    """`(N, 3)` of each video, whose frames are aligned: start, end and the probability that the head of `model` gives them."""
    import torch

    head = next(h for h in model.heads.values() if h.task == "moments")
    features, frames = zip(*videos, strict=True)
    with torch.no_grad():
        # A copy of the text for each video: as a product's bits depend on its shape, so would those of one copy that all share.
        texts = model.align_texts(np.repeat(raw[None], len(videos), 0))
        batch = LocalizationBatch.from_videos(features=features, frames=frames, texts=texts, scale=model.scale)
        return [np.asarray(one.moments, np.float64).reshape(-1, 3) for one in head.localize(batch)]


def peaks_of(features: FrameFeatures, curve: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """`(N,)` seconds: when the frame of each span is shown whose value in `curve` `(T,)` is highest; its start if it has none."""
    times = features.timestamps_seconds
    found = []
    for start, end in spans:
        inside = np.flatnonzero((times >= start) & (times < end))
        found.append(float(times[inside[curve[inside].argmax()]]) if len(inside) else float(start))
    return np.array(found)
