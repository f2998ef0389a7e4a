"""Training and evaluation batches: videos as padded frame features, queries and questions that point at them.

Queries index videos (`video_of_query`) instead of being paired with them row by row: a video with twenty captions is held
once, all its captions are its positives, and no caption of it is anyone's negative.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import torch
from torch.nn import functional

from vla.errors import ShapeError
from vla.nn.l2_normalize import l2_normalize
from vla.nn.packing import Packing

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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
        tokens: `(N, D)` float32 raw features of the queries' tokens, one query after the other; `(0, D)` where no setting
            reads them.
        token_mask: `(Q, L)` bool, which of a query's places are tokens; `(Q, 0)` where there are none.
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
    tokens: torch.Tensor
    token_mask: torch.Tensor

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
            and self.tokens.shape == (int(self.token_mask.sum()), d)
        )
        if not fits:
            raise ShapeError(f"batch parts disagree: frames {(b, t, d)}, queries {tuple(self.queries.shape)}")
        for rows in (self.video_of_query, self.questions.video_of_question):
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < b:
                raise ShapeError("a query or a question points at a video that is not in the batch")

    @cached_property
    def layout(self) -> Packing:
        """Where the real frames lie."""
        return Packing(self.frame_mask)

    @cached_property
    def rows(self) -> torch.Tensor:
        """`(N, D)` the real frames, one after the other."""
        return self.layout.rows(self.frames)

    def to(self, device: torch.device) -> AlignmentBatch:
        """The same batch on `device`."""
        return _moved(self, device)


def _moved(parts: T, device: torch.device) -> T:
    """A dataclass with everything that has a device on `device`."""
    values = {f.name: getattr(parts, f.name) for f in fields(parts)}  # type: ignore[arg-type]
    return type(parts)(**{k: v.to(device) if hasattr(v, "to") else v for k, v in values.items()})


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A batch in the shared space; every vector has unit norm, padding is zero.

    Attributes:
        packed: `(N, E)` the real frames, one after the other.
        packing: where these lie in the padded batch `(B, T)`.
        queries: `(Q, E)`.
        sentences: `(Q, S, E)`.
        questions: `(K, E)`.
        choices: `(K, C, E)`, each said after its question.
        alone: `(K, C, E)`, each by itself.
        tokens: `(Q, L, E)` of the queries; `(Q, 0, E)` where no head compares them.
        token_mask: `(Q, L)` bool.
        scale: scalar that cosines are multiplied with before a softmax.
    """

    packed: torch.Tensor
    packing: Packing
    queries: torch.Tensor
    sentences: torch.Tensor
    questions: torch.Tensor
    choices: torch.Tensor
    alone: torch.Tensor
    tokens: torch.Tensor
    token_mask: torch.Tensor
    scale: torch.Tensor

    @property
    def frame_mask(self) -> torch.Tensor:
        """`(B, T)` bool, True for real frames, which come first."""
        return self.packing.mask

    @cached_property
    def frames(self) -> torch.Tensor:
        """`(B, T, E)` padded; made when it is first read, since most of a step needs the packed frames alone."""
        return self.packing.padded(self.packed)

    @property
    def videos(self) -> torch.Tensor:
        """`(B, E)` the direction of the mean of each video's frames."""
        video, position = self.frame_mask.nonzero(as_tuple=True)
        return self._directions(video, position, len(self.frame_mask))

    def pooled(self, rows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """`(Q, E)` the direction of the mean of those frames of video `rows[i]` for which `inside[i]` `(Q, T)` holds."""
        query, position = (inside & self.frame_mask[rows]).nonzero(as_tuple=True)
        return self._directions(query, position, len(rows), rows[query])

    def parts(self, rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`(V, N, E)` directions of the means of N equal parts of each of the videos `rows`, and `(V, N)` which hold a frame."""
        mask = self.frame_mask[rows]
        video, position = mask.nonzero(as_tuple=True)
        part = (position * count).div(mask.sum(1)[video], rounding_mode="floor")
        owner = video * count + part
        found = self._directions(owner, position, len(rows) * count, rows[video])
        held = torch.bincount(owner, minlength=len(found)) > 0
        return found.view(len(rows), count, found.shape[1]), held.view(len(rows), count)

    def _directions(
        self, owner: torch.Tensor, position: torch.Tensor, count: int, video: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`(count, E)` the direction of the sum of the frames that each owns; `owner` ascends. No frame is copied for it."""
        index = self.packing.starts[owner if video is None else video] + position
        lengths = torch.bincount(owner, minlength=count)
        sums = functional.embedding_bag(index, self.packed, lengths.cumsum(0) - lengths, mode="sum")
        return l2_normalize(sums)

    def blind(self) -> Aligned:
        """The same words with nothing to be seen: one frame a video, and that is zero. No gradient flows through it."""
        count = len(self.frame_mask)
        words = {f.name: getattr(self, f.name).detach() for f in fields(self) if f.name not in ("packed", "packing")}
        return Aligned(
            packed=self.queries.new_zeros(count, self.queries.shape[1]),
            packing=Packing(torch.ones_like(self.frame_mask[:, :1])),
            **words,
        )
