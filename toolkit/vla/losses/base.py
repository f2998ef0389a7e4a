"""Protocols of losses, and functions that contrastive losses share.

A loss is a module of this package with `class Loss(nn.Module)`. The constructor's arguments are its
options, and `Loss.kind` selects one of the two protocols below. It returns a scalar with a
gradient, 0 where there is nothing to learn from. It computes in float32 at least; float64 inputs
stay float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from vla.errors import ShapeError, UsageError

Kind = Literal["pairs", "sets"]


class PairLoss(Protocol):
    """A loss over a matrix of similarities: every row is compared with every column."""

    kind: ClassVar[Kind]  # "pairs"

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """Return a scalar.

        Args:
            scores: `(rows, columns)` similarities times the scale; -inf for ignored pairs.
            positives: `(rows, columns)` bool, or weights from 0 up. A weight where the score is
                -inf counts as 0.

        Raises:
            ShapeError: their shapes differ.
            UsageError: a weight is negative.
        """
        ...

    def from_vectors(
        self,
        queries: Tensor,
        videos: Tensor,
        scale: Tensor | float,
        positives: Tensor,
        ignore_pairs: Tensor | None = None,
        *,
        elements: int = ...,
    ) -> Tensor:
        """Return the scalar that `forward` gives for `queries @ videos.T * scale`, without storing
        that matrix.

        Gradients are equal, too. Memory beside the vectors and their gradients is a few times
        `elements`, whatever their number.

        Args:
            queries: `(Q, E)`.
            videos: `(V, E)`.
            scale: positive factor of the products.
            positives: `(K, 2)` int64, query and video of each positive pair; see `positive_pairs`.
            ignore_pairs: `(X, 2)` int64, pairs that are neither positive nor negative.
            elements: maximum number of scores in memory, but at least one row.

        Raises:
            ShapeError: the vectors differ in width, or pairs have another shape or type.
            UsageError: a pair is out of range.
        """
        ...


class SetLoss(Protocol):
    """A loss over videos and texts as sets of segments and of sentences."""

    kind: ClassVar[Kind]  # "sets"

    def forward(
        self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float
    ) -> Tensor:
        """Return a scalar.

        Args:
            similarity: `(videos, texts, segments, sentences)`, not scaled; text i belongs to video
                i.
            segment_mask: `(videos, segments)` bool, True for real ones; padding is not read.
            sentence_mask: `(texts, sentences)` bool, likewise.
            scale: positive factor of the score of a video and a text.

        Raises:
            ShapeError: their shapes disagree, or the numbers of videos and texts differ.
        """
        ...


RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Scores and weights `(rows, columns)`, at least one weight in every row -> `(rows,)`."""


def symmetric(row_loss: RowLoss, scores: Tensor, positives: Tensor) -> Tensor:
    """Return the mean of `row_loss` over rows with a positive, averaged with that over such
    columns.

    Args:
        row_loss: loss of each row.
        scores: as in `PairLoss.forward`.
        positives: as in `PairLoss.forward`.
    """
    scores, weights = checked_scores(scores, positives)
    return (
        mean_over_rows(row_loss, scores, weights) + mean_over_rows(row_loss, scores.T, weights.T)
    ) / 2


def cross_entropy(scores: Tensor, weights: Tensor) -> Tensor:
    """Return `(rows,)`: cross-entropy of softmax(scores) with the weights, normalized to sum 1."""
    # Where the weight is 0 the logarithm may be -inf, and 0 * -inf is NaN.
    logs = scores.log_softmax(dim=1).masked_fill(weights == 0, 0.0)
    return -(weights * logs).sum(dim=1) / weights.sum(dim=1)


def checked_scores(scores: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores in float32 at least, and the weights in the same type, 0 where the score is
    -inf.

    Raises:
        ShapeError: they are not matrices of one shape.
        UsageError: a weight is negative.
    """
    if scores.ndim != 2 or scores.shape != positives.shape:
        raise ShapeError(
            f"scores {tuple(scores.shape)} and positives {tuple(positives.shape)} must be one "
            f"2-D shape"
        )
    if positives.dtype != torch.bool and (positives < 0).any():
        raise UsageError("positives are True and False, or weights from 0 up; some are negative")
    scores = at_least_float32(scores)
    return scores, positives.to(scores.dtype).masked_fill(scores == -torch.inf, 0.0)


def positive_pairs(video_of_query: Tensor) -> Tensor:
    """Return `(Q, 2)` int64, every query with its own video, the positives of
    `PairLoss.from_vectors`.
    """
    return torch.stack(
        [torch.arange(len(video_of_query), device=video_of_query.device), video_of_query], 1
    )


def same_text_pairs(video_of_query: Tensor, text_of_query: Tensor) -> Tensor:
    """Return `(X, 2)` int64: every query with the other videos of equal queries.

    Such a video is no negative: these pairs are ignored, or positives, too.

    Args:
        video_of_query: `(Q,)` int64.
        text_of_query: `(Q,)` int64, equal for equal texts.
    """
    videos = int(video_of_query.max()) + 1 if len(video_of_query) else 1
    keys = torch.unique(text_of_query * videos + video_of_query)
    text, video = keys.div(videos, rounding_mode="floor"), keys % videos
    first = torch.searchsorted(text, text_of_query.contiguous())
    count = torch.searchsorted(text, text_of_query.contiguous(), right=True) - first
    query = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    step = torch.arange(len(query), device=count.device) - (count.cumsum(0) - count)[query]
    candidate = video[first[query] + step]
    is_other = candidate != video_of_query[query]
    return torch.stack([query[is_other], candidate[is_other]], 1)


def check_sets(similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor) -> None:
    """Raise ShapeError unless the arguments have the shapes of `SetLoss.forward`."""
    shape = tuple(similarity.shape)
    fits = (
        similarity.ndim == 4
        and shape[0] == shape[1]
        and segment_mask.shape == (shape[0], shape[2])
        and sentence_mask.shape == (shape[1], shape[3])
    )
    if not fits:
        raise ShapeError(
            f"similarity is (B, B, N, M) with masks (B, N) and (B, M), not {shape}, "
            f"{tuple(segment_mask.shape)} and "
            f"{tuple(sentence_mask.shape)}"
        )


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values in float32 at least: at scale 100, bfloat16 has steps of 0.5."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def mean_over_rows(row_loss: RowLoss, scores: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of `row_loss` over rows with a positive weight.

    Arguments as from `checked_scores`.
    """
    # Rows without positives are removed rather than masked: log-softmax of a row of -inf has a NaN
    # gradient.
    has_positive = weights.sum(dim=1) > 0
    if not has_positive.all():
        scores, weights = scores[has_positive], weights[has_positive]
    losses = row_loss(scores, weights)
    return losses.sum() / max(len(losses), 1)
