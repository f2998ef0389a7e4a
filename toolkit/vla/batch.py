"""Training and evaluation batches: videos as padded frame features, queries that point at them.

Queries index videos (`video_of_query`) instead of being paired with them row by row: a video with twenty captions is held
once, all its captions are its positives, and no caption of it is anyone's negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vla.cache.store import FeatureCache
from vla.datasets.base import Annotation
from vla.errors import MissingError, ShapeError
from vla.features import FrameFeatures
from vla.sentences import sentences
from vla.spans import frames_in


@dataclass(frozen=True)
class Query:
    """One text and what it tells of.

    Attributes:
        text: the caption.
        parts: how it is cached; several where it is longer than the encoder's context.
        sentences: its sentences, each cached; what the untimed segment loss aligns.
        video: row of the video it tells of.
        spans: `(S, 2)` seconds; `(0, 2)` where it tells of the whole video.
    """

    text: str
    parts: tuple[str, ...]
    sentences: tuple[str, ...]
    video: int
    spans: np.ndarray

    @property
    def is_timed(self) -> bool:
        """True if it tells of part of its video."""
        return len(self.spans) > 0


@dataclass(frozen=True)
class Corpus:
    """Everything that training or evaluation reads, in memory.

    Attributes:
        videos: features of each video.
        queries: each query's `video` is a row of `videos`.
        vectors: pooled text features of every part and sentence, `(D,)` float32 by text.
    """

    videos: list[FrameFeatures]
    queries: list[Query]
    vectors: dict[str, np.ndarray]

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.videos[0].values.shape[1]

    def subset(self, rows: np.ndarray) -> Corpus:
        """The videos of `rows`, in that order, with their queries."""
        new_row = {int(old): new for new, old in enumerate(rows)}
        queries = [replace(q, video=new_row[q.video]) for q in self.queries if q.video in new_row]
        return Corpus([self.videos[int(i)] for i in rows], queries, self.vectors)

    def text_vector(self, query: Query) -> np.ndarray:
        """`(D,)` float32 raw text feature; of a split text, the mean direction of its parts at their mean length."""
        return joined(np.stack([self.vectors[p] for p in query.parts]))


def joined(parts: np.ndarray) -> np.ndarray:
    """`(D,)` float32: the mean direction of the text features `parts` `(P, D)` at their mean length; of one, itself."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.linalg.norm(parts, axis=1, keepdims=True).clip(1e-12)
    mean = (parts / lengths).mean(0)
    return (mean / max(1e-12, float(np.linalg.norm(mean))) * lengths.mean()).astype(np.float32)


def texts_to_cache(annotations: list[Annotation]) -> list[str]:
    """Every text that `load_corpus` will look up: captions, and the sentences of those that have several."""
    texts = [a.query for a in annotations]
    return list(dict.fromkeys([*texts, *(s for t in texts for s in sentences(t))]))


def load_corpus(cache: FeatureCache, annotations: list[Annotation]) -> Corpus:
    """The annotated videos and their captions, read from `cache`.

    Raises:
        MissingError: a video or text is not cached, or there is nothing at all.
    """
    if not annotations:
        raise MissingError("there are no captions of cached videos: give some with --captions FILE")
    ids = list(dict.fromkeys(a.video for a in annotations))
    row = {v: i for i, v in enumerate(ids)}
    videos = [cache.frames(v) for v in ids]
    queries = []
    for a in annotations:
        parts = tuple(cache.pieces(a.query))
        if not parts:
            raise MissingError(
                f"the caption {a.query[:80]!r} is not cached: run 'vla extract --captions' or 'vla train' again"
            )
        told = tuple(p for s in sentences(a.query) for p in cache.pieces(s))
        spans = np.array(a.spans, np.float64).reshape(-1, 2)
        queries.append(Query(a.query, parts, told or parts, row[a.video], spans))
    texts = list(dict.fromkeys(t for q in queries for t in (*q.parts, *q.sentences)))
    pooled = cache.texts(texts).pooled.astype(np.float32)
    return Corpus(videos, queries, dict(zip(texts, pooled, strict=True)))


@dataclass(frozen=True)
class AlignmentBatch:
    """Videos padded to the longest, and queries that point at them.

    Attributes:
        frames: `(B, T, D)` float32 raw features; zero at padding.
        frame_mask: `(B, T)` bool, True for real frames, which come first.
        seconds: `(B, T)` float32, when each frame is shown.
        durations: `(B,)` float32.
        queries: `(Q, D)` float32 raw text features.
        video_of_query: `(Q,)` int64 rows of `frames`.
        is_timed: `(Q,)` bool.
        inside: `(Q, T)` bool, the frames of the query's video that its spans touch; all real frames where it is untimed.
        sentences: `(Q, S, D)` float32 sentence features; zero at padding, and for videos that have timed captions here.
        sentence_mask: `(Q, S)` bool.
    """

    frames: torch.Tensor
    frame_mask: torch.Tensor
    seconds: torch.Tensor
    durations: torch.Tensor
    queries: torch.Tensor
    video_of_query: torch.Tensor
    is_timed: torch.Tensor
    inside: torch.Tensor
    sentences: torch.Tensor
    sentence_mask: torch.Tensor

    def __post_init__(self) -> None:
        b, t, d = self.frames.shape
        q = len(self.queries)
        fits = (
            self.frame_mask.shape == self.seconds.shape == (b, t)
            and self.queries.shape == (q, d)
            and self.inside.shape == (q, t)
            and self.video_of_query.shape == (q,)
        )
        if not fits:
            raise ShapeError(f"batch parts disagree: frames {(b, t, d)}, queries {tuple(self.queries.shape)}")
        if q and not 0 <= int(self.video_of_query.min()) <= int(self.video_of_query.max()) < b:
            raise ShapeError("a query points at a video that is not in the batch")

    def to(self, device: torch.device) -> AlignmentBatch:
        """The same batch on `device`."""
        return AlignmentBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


def collate(corpus: Corpus, rows: np.ndarray, queries: list[Query]) -> AlignmentBatch:
    """A batch of the videos `rows` of `corpus` and those `queries` (each of which tells of one of these videos)."""
    videos = [corpus.videos[int(i)] for i in rows]
    place = {int(row): i for i, row in enumerate(rows)}
    frames, mask, seconds = collate_frames(videos)
    t, d = frames.shape[1:]
    # Only a video without timed captions has its sentences aligned; the others' need not be brought along.
    timed = {q.video for q in queries if q.is_timed}
    told_of = [() if q.video in timed else q.sentences for q in queries]
    most = max(map(len, told_of), default=0)
    told, told_mask = np.zeros((len(queries), most, d), np.float32), np.zeros((len(queries), most), bool)
    inside = np.zeros((len(queries), t), bool)
    for i, query in enumerate(queries):
        video = corpus.videos[query.video]
        for k, sentence in enumerate(told_of[i]):
            told[i, k], told_mask[i, k] = corpus.vectors[sentence], True
        inside[i, : len(video.values)] = not query.is_timed
        for span in query.spans:
            first, last = frames_in(video.timestamps_seconds, video.duration_seconds, span)
            inside[i, first:last] = True
    text = np.stack([corpus.text_vector(q) for q in queries]) if queries else np.zeros((0, d), np.float32)
    return AlignmentBatch(
        frames,
        mask,
        seconds,
        torch.tensor([v.duration_seconds for v in videos], dtype=torch.float32),
        torch.from_numpy(text),
        torch.tensor([place[q.video] for q in queries], dtype=torch.int64),
        torch.tensor([q.is_timed for q in queries], dtype=torch.bool),
        torch.from_numpy(inside),
        torch.from_numpy(told),
        torch.from_numpy(told_mask),
    )


def collate_frames(videos: Sequence[FrameFeatures]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames `(B, T, D)` float32, their mask `(B, T)` and times `(B, T)`, padded with zeros to the longest video."""
    b, t, d = len(videos), max(len(v.values) for v in videos), videos[0].values.shape[1]
    frames, seconds = np.zeros((b, t, d), np.float32), np.zeros((b, t), np.float32)
    mask = np.zeros((b, t), bool)
    for i, video in enumerate(videos):
        n = len(video.values)
        frames[i, :n], seconds[i, :n], mask[i, :n] = video.values, video.timestamps_seconds, True
    return torch.from_numpy(frames), torch.from_numpy(mask), torch.from_numpy(seconds)


@dataclass(frozen=True)
class Aligned:
    """A batch in the shared space; every vector has unit norm, padding is zero.

    Attributes:
        frames: `(B, T, E)`.
        frame_mask: `(B, T)` bool.
        queries: `(Q, E)`.
        sentences: `(Q, S, E)`.
        scale: what cosines are multiplied with before a softmax.
    """

    frames: torch.Tensor
    frame_mask: torch.Tensor
    queries: torch.Tensor
    sentences: torch.Tensor
    scale: torch.Tensor

    @property
    def videos(self) -> torch.Tensor:
        """`(B, E)` the direction of the mean of each video's frames."""
        return normalized((self.frames * self.frame_mask.unsqueeze(-1)).sum(1))

    def pooled(self, rows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """`(Q, E)` the direction of the mean of those frames of video `rows[i]` for which `inside[i]` `(Q, T)` holds."""
        weights = (inside & self.frame_mask[rows]).to(self.frames.dtype)
        return normalized(torch.einsum("qt,qte->qe", weights, self.frames[rows]))


def normalized(vectors: torch.Tensor) -> torch.Tensor:
    """`vectors` with unit norm along the last axis; a zero vector stays zero."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
