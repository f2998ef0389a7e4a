"""Training and evaluation batches: videos as padded frame features, queries and questions that point at them.

Queries index videos (`video_of_query`) instead of being paired with them row by row: a video with twenty captions is held
once, all its captions are its positives, and no caption of it is anyone's negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch

from vla.corpus import Asked, Corpus, Query
from vla.errors import ShapeError
from vla.features import FrameFeatures
from vla.spans import frames_in

T = TypeVar("T")


@dataclass(frozen=True)
class Questions:
    """Questions about the videos of a batch.

    Attributes:
        vectors: `(K, D)` float32 raw text features of the questions.
        video_of_question: `(K,)` int64 rows of the batch's frames.
        choices: `(K, C, D)` float32 raw text features of each choice said after its question; zero at padding.
        alone: `(K, C, D)` likewise of each choice by itself.
        choice_mask: `(K, C)` bool; all False where the question has no choices.
        right: `(K,)` int64, the right choice; -1 where there is none or it is not known.
        counts: `(K,)` float32, how often; NaN where that is not asked or not known.
        answers: of open questions, all that are right; empty where that is not asked or not known.
        kinds: `choice`, `open` or `count`.
    """

    vectors: torch.Tensor
    video_of_question: torch.Tensor
    choices: torch.Tensor
    alone: torch.Tensor
    choice_mask: torch.Tensor
    right: torch.Tensor
    counts: torch.Tensor
    answers: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kinds)

    def of_kind(self, kind: str) -> torch.Tensor:
        """`(N,)` int64: which questions are of that kind."""
        rows = [i for i, k in enumerate(self.kinds) if k == kind]
        return torch.tensor(rows, dtype=torch.int64, device=self.vectors.device)

    def to(self, device: torch.device) -> Questions:
        """The same questions on `device`."""
        return _moved(self, device)


@dataclass(frozen=True)
class AlignmentBatch:
    """Videos padded to the longest, and what points at them.

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
        spans: `(Q, P, 2)` float32 seconds, what each timed query tells of; zero at padding.
        span_mask: `(Q, P)` bool; all False where the query is untimed.
        saliency: `(Q, T)` float32, how well each frame of the query's video shows it, by its annotators' mean; NaN where
            nobody rated it.
        questions: about these videos.
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
    spans: torch.Tensor
    span_mask: torch.Tensor
    saliency: torch.Tensor
    questions: Questions

    def __post_init__(self) -> None:
        b, t, d = self.frames.shape
        q = len(self.queries)
        fits = (
            self.frame_mask.shape == self.seconds.shape == (b, t)
            and self.queries.shape == (q, d)
            and self.inside.shape == (q, t)
            and self.video_of_query.shape == (q,)
            and self.spans.shape == (*self.span_mask.shape, 2)
            and self.saliency.shape == (q, t)
        )
        if not fits:
            raise ShapeError(f"batch parts disagree: frames {(b, t, d)}, queries {tuple(self.queries.shape)}")
        for rows in (self.video_of_query, self.questions.video_of_question):
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < b:
                raise ShapeError("a query or a question points at a video that is not in the batch")

    def to(self, device: torch.device) -> AlignmentBatch:
        """The same batch on `device`."""
        return _moved(self, device)


def _moved(parts: T, device: torch.device) -> T:
    """A dataclass with everything that has a device on `device`."""
    values = {f.name: getattr(parts, f.name) for f in fields(parts)}  # type: ignore[arg-type]
    return type(parts)(**{k: v.to(device) if hasattr(v, "to") else v for k, v in values.items()})


def collate(
    corpus: Corpus, rows: np.ndarray, queries: Sequence[Query], questions: Sequence[Asked] = ()
) -> AlignmentBatch:
    """A batch of the videos `rows` of `corpus`, and of `queries` and `questions` about them."""
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
    spans = np.zeros((len(queries), max((len(q.spans) for q in queries), default=0), 2), np.float32)
    span_mask, saliency = np.zeros(spans.shape[:2], bool), np.full((len(queries), t), np.nan, np.float32)
    for i, query in enumerate(queries):
        video = corpus.videos[query.video]
        for k, sentence in enumerate(told_of[i]):
            told[i, k], told_mask[i, k] = corpus.vectors[sentence], True
        inside[i, : len(video.values)] = not query.is_timed
        for span in query.spans:
            first, last = frames_in(video.timestamps_seconds, video.duration_seconds, span)
            inside[i, first:last] = True
        spans[i, : len(query.spans)], span_mask[i, : len(query.spans)] = query.spans, True
        _rate(saliency[i], query, video)
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
        torch.from_numpy(spans),
        torch.from_numpy(span_mask),
        torch.from_numpy(saliency),
        _questions(corpus, place, questions),
    )


def _rate(row: np.ndarray, query: Query, video: FrameFeatures) -> None:
    """Write into `row` `(T,)` what annotators gave to the clip that each frame lies in."""
    rated = query.annotation.saliency if query.annotation else None
    if rated is None:
        return
    means = {clip: float(np.mean(of_clip)) for clip, of_clip in zip(rated.clips, rated.scores, strict=True)}
    for i, second in enumerate(video.timestamps_seconds):
        row[i] = means.get(int(second // rated.clip_seconds), np.nan)


def _questions(corpus: Corpus, place: dict[int, int], asked: Sequence[Asked]) -> Questions:
    k, d, most = len(asked), corpus.dim, max((len(q.choices) for q in asked), default=0)
    vectors, choices, alone = (np.zeros((k, *n, d), np.float32) for n in ((), (most,), (most,)))
    mask, right = np.zeros((k, most), bool), np.full(k, -1, np.int64)
    counts = np.full(k, np.nan, np.float32)
    for i, one in enumerate(asked):
        vectors[i] = corpus.vector(one.parts)
        for c, (stated, by_itself) in enumerate(zip(one.choices, one.alone, strict=True)):
            choices[i, c], alone[i, c], mask[i, c] = corpus.vector(stated), corpus.vector(by_itself), True
        right[i] = -1 if one.question.right is None else one.question.right
        counts[i] = np.nan if one.question.count is None else one.question.count
    return Questions(
        torch.from_numpy(vectors),
        torch.tensor([place[q.video] for q in asked], dtype=torch.int64),
        torch.from_numpy(choices),
        torch.from_numpy(alone),
        torch.from_numpy(mask),
        torch.from_numpy(right),
        torch.from_numpy(counts),
        tuple(q.question.answers for q in asked),
        tuple(q.question.kind for q in asked),
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
        questions: `(K, E)`.
        choices: `(K, C, E)`, each said after its question.
        alone: `(K, C, E)`, each by itself.
        scale: what cosines are multiplied with before a softmax.
    """

    frames: torch.Tensor
    frame_mask: torch.Tensor
    queries: torch.Tensor
    sentences: torch.Tensor
    questions: torch.Tensor
    choices: torch.Tensor
    alone: torch.Tensor
    scale: torch.Tensor

    @property
    def videos(self) -> torch.Tensor:
        """`(B, E)` the direction of the mean of each video's frames."""
        return normalized((self.frames * self.frame_mask.unsqueeze(-1)).sum(1))

    def pooled(self, rows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """`(Q, E)` the direction of the mean of those frames of video `rows[i]` for which `inside[i]` `(Q, T)` holds."""
        weights = (inside & self.frame_mask[rows]).to(self.frames.dtype)
        return normalized(torch.einsum("qt,qte->qe", weights, self.frames[rows]))

    def blind(self) -> Aligned:
        """The same words with nothing to be seen: one frame a video, and that is zero. No gradient flows through it."""
        nothing = torch.zeros_like(self.frames[:, :1])
        shown = Aligned(
            nothing, torch.ones_like(self.frame_mask[:, :1]), self.queries, self.sentences, self.questions,
            self.choices, self.alone, self.scale,
        )  # fmt: skip
        return Aligned(**{f.name: getattr(shown, f.name).detach() for f in fields(shown)})


def normalized(vectors: torch.Tensor) -> torch.Tensor:
    """`vectors` with unit norm along the last axis; a zero vector stays zero."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
