"""What a loss is, and what the contrastive ones share.

A loss is a file of this shelf with `class Loss(nn.Module)`; its constructor's arguments are its options, and
`Loss.kind` says which of the two calls below it answers. It returns one scalar that carries a gradient, 0 where there
is nothing to learn from, computed in float32 at least whatever the inputs are; a float64 input stays float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from vla.errors import ShapeError, UsageError

Kind = Literal["pairs", "sets"]


class PairLoss(Protocol):
    """A loss over a matrix: every row is compared with every column."""

    kind: ClassVar[Kind]  # "pairs"

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """A scalar.

        Args:
            scores: `(rows, columns)` similarities, already multiplied by the scale; -inf where the two are not to be
                compared at all.
            positives: `(rows, columns)` bool, or weights from 0 up. A weight where the score is -inf counts as 0.

        Raises:
            ShapeError: the two disagree.
            UsageError: a weight is negative.
        """
        ...

    def of_vectors(
        self,
        queries: Tensor,
        videos: Tensor,
        scale: Tensor | float,
        positives: Tensor,
        left_out: Tensor | None = None,
        *,
        elements: int = ...,
    ) -> Tensor:
        """The scalar that `forward` gives for `queries @ videos.T * scale`, and its gradient, without holding that matrix.

        Memory beside the vectors and their gradients is a few times `elements`, whatever their number.

        Args:
            queries: `(Q, E)`.
            videos: `(V, E)`.
            scale: positive; multiplies the products.
            positives: `(K, 2)` int64, query and video of each pair that belongs together; `positive_pairs` makes them.
            left_out: `(X, 2)` int64, pairs that are not to be compared at all.
            elements: scores that are held at once, at least one row of them.

        Raises:
            ShapeError: the vectors differ in width, or pairs are no pairs.
            UsageError: a pair points outside.
        """
        ...


class SetLoss(Protocol):
    """A loss over videos and texts that are sets of segments and of sentences."""

    kind: ClassVar[Kind]  # "sets"

    def forward(self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float) -> Tensor:
        """A scalar.

        Args:
            similarity: `(videos, texts, segments, sentences)`, not scaled; text i belongs to video i.
            segment_mask: `(videos, segments)` bool, True where there is one; whatever lies elsewhere is not read.
            sentence_mask: `(texts, sentences)` bool, likewise.
            scale: positive; multiplies the score of a video and a text.

        Raises:
            ShapeError: they disagree, or videos and texts are not as many.
        """
        ...


RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Scores and weights `(rows, columns)`, at least one weight in every row -> `(rows,)`."""


def both_ways(row_loss: RowLoss, scores: Tensor, positives: Tensor) -> Tensor:
    """Mean of `row_loss` over the rows that have a positive, and over such columns, averaged; arguments as PairLoss."""
    scores, weights = checked(scores, positives)
    return (over_rows(row_loss, scores, weights) + over_rows(row_loss, scores.T, weights.T)) / 2


def cross_entropy(scores: Tensor, weights: Tensor) -> Tensor:
    """`(rows,)`: cross-entropy of softmax(scores) against the weights, made to sum to 1."""
    # Where the weight is 0 the logarithm may be -inf, and 0 * -inf is NaN.
    logs = scores.log_softmax(dim=1).masked_fill(weights == 0, 0.0)
    return -(weights * logs).sum(dim=1) / weights.sum(dim=1)


def checked(scores: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """The scores in float32 at least, and the weights in the same type, 0 where the score is -inf; as PairLoss."""
    if scores.ndim != 2 or scores.shape != positives.shape:
        raise ShapeError(f"scores {tuple(scores.shape)} and positives {tuple(positives.shape)} must be one 2-D shape")
    if positives.dtype != torch.bool and (positives < 0).any():
        raise UsageError("positives are True and False, or weights from 0 up; some are negative")
    scores = widened(scores)
    return scores, positives.to(scores.dtype).masked_fill(scores == -torch.inf, 0.0)


def positive_pairs(video_of_query: Tensor) -> Tensor:
    """`(Q, 2)` int64: every query with its own video; what `PairLoss.of_vectors` takes as positives."""
    return torch.stack([torch.arange(len(video_of_query), device=video_of_query.device), video_of_query], 1)


def same_text_pairs(video_of_query: Tensor, text_of_query: Tensor) -> Tensor:
    """`(X, 2)` int64: every query with those other videos of which another query says the very same.

    Such a video is no wrong answer: these pairs are left out, or are positives, too.

    Args:
        video_of_query: `(Q,)` int64.
        text_of_query: `(Q,)` int64, equal where the texts are.
    """
    videos = int(video_of_query.max()) + 1 if len(video_of_query) else 1
    told = torch.unique(text_of_query * videos + video_of_query)
    text, video = told.div(videos, rounding_mode="floor"), told % videos
    first = torch.searchsorted(text, text_of_query.contiguous())
    count = torch.searchsorted(text, text_of_query.contiguous(), right=True) - first
    query = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    step = torch.arange(len(query), device=count.device) - (count.cumsum(0) - count)[query]
    found = video[first[query] + step]
    other = found != video_of_query[query]
    return torch.stack([query[other], found[other]], 1)


def check_sets(similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor) -> None:
    """Nothing, if these are as `SetLoss` wants them; else ShapeError."""
    shape = tuple(similarity.shape)
    fits = (
        similarity.ndim == 4
        and shape[0] == shape[1]
        and segment_mask.shape == (shape[0], shape[2])
        and sentence_mask.shape == (shape[1], shape[3])
    )
    if not fits:
        raise ShapeError(
            f"similarity is (B, B, N, M) with masks (B, N) and (B, M), not {shape}, {tuple(segment_mask.shape)} and "
            f"{tuple(sentence_mask.shape)}"
        )


def widened(values: Tensor) -> Tensor:
    """The same values in float32 at least: at scale 100, bf16 keeps steps of 0.5."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def over_rows(row_loss: RowLoss, scores: Tensor, weights: Tensor) -> Tensor:
    """Mean of `row_loss` over the rows that have a positive weight; scores and weights as `checked` gives them."""
    # Rows without positives are taken out rather than masked: log-softmax of a row of -inf has a NaN gradient.
    answered = weights.sum(dim=1) > 0
    if not answered.all():
        scores, weights = scores[answered], weights[answered]
    losses = row_loss(scores, weights)
    return losses.sum() / max(len(losses), 1)
