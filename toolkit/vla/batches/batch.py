"""Batches of training and evaluation: padded frame features of videos, with queries and questions
about them.

Queries index videos (`video_of_query`) instead of being paired with them row by row: a video with
twenty captions is stored once, and all its captions are positives, never negatives, of each other.
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
        choices: `(K, C, D)` float32 raw text features of each choice joined to its question; zero
            at padding.
        choices_only: `(K, C, D)` float32 raw text features of each choice alone.
        choice_mask: `(K, C)` bool; all False where the question has no choices.
        right: `(K,)` int64 index of the correct choice; -1 where there is none or it is unknown.
        counts: `(K,)` float32; NaN where the question asks for none or it is unknown.
        answers: correct answers of open questions; empty for other kinds, or where they are
            unknown.
        kinds: `choice`, `open` or `count`.
    """

    vectors: torch.Tensor
    video_of_question: torch.Tensor
    choices: torch.Tensor
    choices_only: torch.Tensor
    choice_mask: torch.Tensor
    right: torch.Tensor
    counts: torch.Tensor
    answers: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kinds)

    def of_kind(self, kind: str) -> torch.Tensor:
        """Return `(N,)` int64 rows of the questions of that kind."""
        rows = [i for i, k in enumerate(self.kinds) if k == kind]
        return torch.tensor(rows, dtype=torch.int64, device=self.vectors.device)

    def to(self, device: torch.device) -> Questions:
        """Return the same questions on `device`."""
        return _to_device(self, device)


@dataclass(frozen=True, kw_only=True)
class AlignmentBatch:
    """Videos padded to the longest, with queries and questions about them.

    Attributes:
        frames: `(B, T, D)` float32 raw features; zero at padding.
        frame_mask: `(B, T)` bool, True for real frames, which come first.
        seconds: `(B, T)` float32 timestamps.
        durations: `(B,)` float32 seconds.
        queries: `(Q, D)` float32 raw text features.
        video_of_query: `(Q,)` int64 rows of `frames`.
        is_timed: `(Q,)` bool.
        inside: `(Q, T)` bool, frames of the query's video that its spans touch; all real frames
            where it is untimed.
        sentences: `(Q, S, D)` float32 sentence features; zero at padding, and for videos with timed
            captions in the batch.
        sentence_mask: `(Q, S)` bool.
        spans: `(Q, P, 2)` float32 seconds, spans of each timed query; zero at padding.
        span_mask: `(Q, P)` bool; all False where the query is untimed.
        saliency: `(Q, T)` float32 mean rating of each frame of the query's video; NaN where there
            is none.
        questions: about these videos.
        tokens: `(N, D)` float32 raw features of the queries' tokens, concatenated; `(0, D)` where
            no setting reads them.
        token_mask: `(Q, L)` bool, True for tokens; `(Q, 0)` where there are none.
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
            raise ShapeError(
                f"shapes of the batch disagree: frames {(b, t, d)}, queries "
                f"{tuple(self.queries.shape)}"
            )
        for rows in (self.video_of_query, self.questions.video_of_question):
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < b:
                raise ShapeError("a query or a question refers to a video outside of the batch")

    @cached_property
    def packing(self) -> Packing:
        """Positions of the real frames."""
        return Packing(self.frame_mask)

    @cached_property
    def packed_frames(self) -> torch.Tensor:
        """`(N, D)` real frames, concatenated."""
        return self.packing.unpad(self.frames)

    def to(self, device: torch.device) -> AlignmentBatch:
        """Return the same batch on `device`."""
        return _to_device(self, device)


def _to_device(batch: T, device: torch.device) -> T:
    """Return a dataclass with all its tensors, and fields that have a method `to`, on `device`."""
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}  # type: ignore[arg-type]
    return type(batch)(**{k: v.to(device) if hasattr(v, "to") else v for k, v in values.items()})


@dataclass(frozen=True, kw_only=True)
class AlignedBatch:
    """A batch in the shared space; every vector has unit norm, padding is zero.

    Attributes:
        packed: `(N, E)` real frames, concatenated.
        packing: their positions in the padded batch `(B, T)`.
        queries: `(Q, E)`.
        sentences: `(Q, S, E)`.
        questions: `(K, E)`.
        choices: `(K, C, E)`, each joined to its question.
        choices_only: `(K, C, E)`, each alone.
        tokens: `(Q, L, E)` of the queries; `(Q, 0, E)` where no head compares them.
        token_mask: `(Q, L)` bool.
        scale: scalar factor of cosines before a softmax.
    """

    packed: torch.Tensor
    packing: Packing
    queries: torch.Tensor
    sentences: torch.Tensor
    questions: torch.Tensor
    choices: torch.Tensor
    choices_only: torch.Tensor
    tokens: torch.Tensor
    token_mask: torch.Tensor
    scale: torch.Tensor

    @property
    def frame_mask(self) -> torch.Tensor:
        """`(B, T)` bool, True for real frames, which come first."""
        return self.packing.mask

    @cached_property
    def frames(self) -> torch.Tensor:
        """`(B, T, E)` padded.

        Computed on demand, since most of a step needs packed frames alone.
        """
        return self.packing.pad(self.packed)

    @property
    def videos(self) -> torch.Tensor:
        """`(B, E)` direction of the mean of each video's frames."""
        video, position = self.frame_mask.nonzero(as_tuple=True)
        return self._pool(video, position, len(self.frame_mask))

    def pool_spans(self, rows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Return the direction of the mean of some frames of a video, for each query.

        Args:
            rows: `(Q,)` int64, the video of each query.
            inside: `(Q, T)` bool, the frames to average.

        Returns:
            `(Q, E)`.
        """
        query, position = (inside & self.frame_mask[rows]).nonzero(as_tuple=True)
        return self._pool(query, position, len(rows), rows[query])

    def equal_segments(self, rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the directions of the means of equal segments of videos.

        Args:
            rows: `(V,)` int64 videos.
            count: number of segments of each.

        Returns:
            `(V, count, E)`, and `(V, count)` bool, True for segments that hold a frame.
        """
        mask = self.frame_mask[rows]
        video, position = mask.nonzero(as_tuple=True)
        segment = (position * count).div(mask.sum(1)[video], rounding_mode="floor")
        owner = video * count + segment
        means = self._pool(owner, position, len(rows) * count, rows[video])
        has_frames = torch.bincount(owner, minlength=len(means)) > 0
        return means.view(len(rows), count, means.shape[1]), has_frames.view(len(rows), count)

    def _pool(
        self,
        owner: torch.Tensor,
        position: torch.Tensor,
        count: int,
        video: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return `(count, E)`, the direction of the sum of the frames of each owner, without
        copying frames.

        Args:
            owner: `(N,)` int64, ascending.
            position: `(N,)` int64 position of the frame in its video.
            count: number of owners.
            video: `(N,)` int64; the owner where None.
        """
        index = self.packing.starts[owner if video is None else video] + position
        lengths = torch.bincount(owner, minlength=count)
        sums = functional.embedding_bag(index, self.packed, lengths.cumsum(0) - lengths, mode="sum")
        return l2_normalize(sums)

    def blind(self) -> AlignedBatch:
        """Return the same texts with videos of one frame each, which is zero.

        No gradient flows through it.
        """
        count = len(self.frame_mask)
        texts = {
            f.name: getattr(self, f.name).detach()
            for f in fields(self)
            if f.name not in ("packed", "packing")
        }
        return AlignedBatch(
            packed=self.queries.new_zeros(count, self.queries.shape[1]),
            packing=Packing(torch.ones_like(self.frame_mask[:, :1])),
            **texts,
        )
