"""The moments of one video for one query, by the best means there is: a trained head, the curve of its frames, or segments."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla.corpus import Corpus, Query
from vla.features import FrameFeatures
from vla.model import AlignmentModel, of_like_length
from vla.search.localise import Curve
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
_SHARPNESS = 20.0
"""`exp(20 s) p`: what the probability `p` that a head gives a moment weighs against the cosine `s` of the segment that shows it.
Source: XML (Lei et al., ECCV 2020), where `s` is the video's; with the segment's a quarter more are found in the rendered world
(43 instead of 34 of 100 among ten, at an IoU of .5)."""
TOGETHER = 16
"""Videos that a head is asked about at a time, the best ones first; no result depends on it."""
VIDEOS = 16
"""A head looks into so many videos, those whose segments are best, or as many as moments are wanted; XML takes 100.
With bias ten were enough (`tests/benchmarks/search_world.py --parts sharpness`)."""
_LEAST = 1e-3
_OVERLAP, _NESTED = 0.3, 0.5
"""Of two moments of a video that share more than this IoU, or this part of the shorter one, the better is listed."""


@dataclass(frozen=True)
class Segments:
    """The segments of a video, as an index scores them for one query.

    Attributes:
        spans: `(N, 2)` seconds.
        scores: `(N,)` cosines less bias.
        cosine: the best of the cosines.
    """

    spans: np.ndarray
    scores: np.ndarray
    cosine: float


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
class Told:
    """What a head says of one video for one query, best first; spans overlap no more than those of `Moments`.

    Attributes:
        spans: `(N, 2)` seconds; none where it finds nothing.
        chances: `(N,)` probabilities.
    """

    spans: np.ndarray
    chances: np.ndarray


@dataclass(frozen=True)
class Finder:
    """Finds moments in videos; what is found in a video depends on no other video, whatever it is looked at together with.

    Attributes:
        model: as it is searched with; its heads are not asked.
        trained: the same with its dial where heads want it; None where it has no head for moments.
    """

    model: AlignmentModel
    trained: AlignmentModel | None

    @classmethod
    def of(cls, model: AlignmentModel) -> Finder:
        """With the head for moments of `model`, if it has one."""
        if all(head.asks != "moments" for head in model.heads.values()):
            return cls(model, None)
        trained = copy.deepcopy(model).eval()
        trained.projector.alpha.fill_(1.0)
        return cls(model, trained)

    def told(self, videos: Sequence[tuple[FrameFeatures, np.ndarray]], raw: np.ndarray, most: int) -> list[Told]:
        """What the head says of each of `videos`, those of about the same length together.

        Args:
            videos: features, and their unit frames `(T, E)` as `trained` aligns them.
            raw: `(D,)` raw text feature of the query.
            most: moments of a video to return.
        """
        found: list[Told] = [Told(np.zeros((0, 2)), np.zeros(0))] * len(videos)
        if self.trained is None:
            return found
        for places in of_like_length([len(frames) for _, frames in videos]):
            rows = _by_head(self.trained, [videos[i] for i in places], raw)
            for place, listed in zip(places, rows, strict=True):
                kept = nms(listed[:, :2], listed[:, 2], _OVERLAP, most, _NESTED)
                found[place] = Told(listed[kept, :2], listed[kept, 2])
        return found

    def find(
        self,
        features: FrameFeatures | None,
        frames: np.ndarray,
        query: np.ndarray,
        held: Segments,
        most: int,
        told: Told | None = None,
    ) -> Moments:
        """Up to `most` moments; none has a higher score than the video's best segment, whose score the best has without a head.

        Args:
            features: of the video; None if it left the cache, and then a peak is where its segment starts.
            frames: `(T, E)` its unit frames.
            query: `(E,)` unit vector.
            held: all segments of the video.
            most: moments to return.
            told: what the head says of the video; None where it was not asked.
        """
        curve = frames @ query
        if features is not None and told is not None and len(told.spans):
            scores = _of_the_nearest(told.spans, held) + np.log(np.maximum(told.chances, _LEAST)) / _SHARPNESS
            order = np.argsort(-scores, kind="stable")
            spans, scores = told.spans[order], scores[order]
            return Moments(spans, scores, held.cosine + scores - scores[0], peaks_of(features, curve, spans))
        spans, scores = held.spans, held.scores
        if features is not None and len(curve) >= _FEW:
            spans, scores = _fitted(features, curve, held, most)
        kept = nms(spans, scores, _OVERLAP, most, _NESTED)
        spans, behind = spans[kept], scores[kept] - scores[kept[0]]
        peaks = spans[:, 0] if features is None else peaks_of(features, curve, spans)
        return Moments(spans, float(held.scores.max()) + behind, held.cosine + behind, peaks)


def _fitted(features: FrameFeatures, curve: np.ndarray, held: Segments, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments that stand out in `curve` `(T,)`, with their ends fitted to it, and their scores; all, where none does."""
    shown = Curve(curve, features.timestamps_seconds, features.duration_seconds)
    stands = shown.contrast(held.spans)
    best = float(stands.max())
    if best <= 0:
        return held.spans, held.scores
    scores = held.scores + _CONTRAST * np.clip(stands / best, -1.0, 1.0)
    # Segments that lie apart may come to lie upon each other, so a few more are looked at.
    few = nms(held.spans, scores, _OVERLAP, 2 * most, _NESTED)
    return np.stack([shown.refined(span, _GAIN * best) for span in held.spans[few]]), scores[few]


def _by_head(
    model: AlignmentModel, videos: Sequence[tuple[FrameFeatures, np.ndarray]], raw: np.ndarray
) -> list[np.ndarray]:
    """`(N, 3)` of each video, whose frames are aligned: start, end and the probability that the head of `model` gives them."""
    import torch

    from vla.collate import collate

    queries = [
        Query("query", ("query",), ("query",), i, np.array([[0.0, features.duration_seconds]]))
        for i, (features, _) in enumerate(videos)
    ]
    corpus = Corpus([features for features, _ in videos], queries, {"query": raw.astype(np.float32)})
    frames = np.concatenate([frames for _, frames in videos])
    with torch.no_grad():
        batch = collate(corpus, np.arange(len(videos)), queries)
        texts, tokens = model.project_texts(batch), model.project_tokens(batch)
        head = next(h for h in model.heads.values() if h.asks == "moments")
        aligned = model.aligned(batch, torch.from_numpy(frames), texts, tokens)
        return [np.asarray(rows, np.float64).reshape(-1, 3) for rows in head.decode(head(aligned, batch), batch)]


def peaks_of(features: FrameFeatures, curve: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """`(N,)` seconds: when the frame of each span is shown whose value in `curve` `(T,)` is highest; its start if it has none."""
    times = features.timestamps_seconds
    found = []
    for start, end in spans:
        inside = np.flatnonzero((times >= start) & (times < end))
        found.append(float(times[inside[curve[inside].argmax()]]) if len(inside) else float(start))
    return np.array(found)


def _of_the_nearest(spans: np.ndarray, held: Segments) -> np.ndarray:
    """`(N,)` for each of `spans` the best score of a segment that it shares half with, or of those that it shares most with."""
    shared = iou(spans, held.spans)
    near = shared >= np.minimum(0.5, shared.max(axis=1, keepdims=True))
    found: np.ndarray = np.where(near, held.scores, -np.inf).max(axis=1)
    return found
