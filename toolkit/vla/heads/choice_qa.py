"""Multiple-choice question answering."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.heads import base
from vla.heads._reader import Reader


class Head(base.Head):
    """Similarity of the video to each choice joined to its question, corrected by the order of
    events.

    Untrained, it is retrieval among the choices, as a frozen encoder answers. The form, question
    and choice as one text, is common to multiple-choice heads (e.g. Xiao et al., NExT-QA, CVPR
    2021). The rest is ours: question and choices, each alone, attend to the video, and each choice
    is compared with the question and with the other choices by its content and its position in the
    video. This distinguishes first, last and after.

    Args:
        dim: width of the aligned vectors.
        width: of the reader.
        dropout: of its hidden units.
    """

    task = "choice"
    has_blind = True

    def __init__(self, dim: int, width: int = 128, dropout: float = 0.2) -> None:
        super().__init__()
        self.reader = Reader(dim, width, dropout=dropout)
        self.order = _Order(width, self.reader.heads, dropout)
        self.score = nn.Linear(width, 1, bias=False)  # a choice is right or wrong beside the others
        nn.init.zeros_(self.score.weight)

    def forward(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor:
        """Return `(N, C)` scores of the choices of the N multiple-choice questions.

        -inf at padding.
        """
        questions = batch.questions.of_kind("choice")
        mask = batch.questions.choice_mask[questions]
        videos = batch.questions.video_of_question[questions]
        similarity = aligned.scale * torch.einsum(
            "nce,ne->nc", aligned.choices[questions], aligned.videos[videos]
        )
        texts = torch.cat(
            [aligned.questions[questions][:, None], aligned.choices_only[questions]], 1
        )
        text_mask = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        rows = videos[:, None].expand(text_mask.shape)[text_mask]
        attention = self.reader(texts[text_mask], rows, aligned, batch)
        content, positions = (
            _pad(values, text_mask) for values in (attention.content, attention.positions)
        )
        correction = self.score(self.order(content, positions, texts, text_mask)).squeeze(-1)
        return (similarity.to(correction.dtype) + correction).masked_fill(~mask, -torch.inf)

    def loss(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor | None:
        """Return the cross-entropy of the choices."""
        right = batch.questions.right[batch.questions.of_kind("choice")]
        if not (right >= 0).any():
            return None
        return functional.cross_entropy(self(aligned, batch)[right >= 0], right[right >= 0])

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Return the index of the best choice of each question."""
        return [int(i) for i in predictions.argmax(1)] if len(predictions) else []


class _Order(nn.Module):
    """Comparison of each choice with its question and every other choice, by similarity and
    position in time.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.pair = nn.Linear(3 * heads + 2, width)
        self.norm = nn.LayerNorm(width)
        self.choice, self.question = nn.Linear(width, width), nn.Linear(width, width)
        self.sums = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.last = nn.Sequential(
            nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width), nn.GELU()
        )

    def forward(
        self,
        content: torch.Tensor,
        positions: torch.Tensor,
        texts: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return `(N, C, width)`.

        The first of the `1 + C` items of every argument is the question.
        """
        lag = positions[:, 1:, None] - positions[:, None]
        similarity = torch.einsum("nce,noe->nco", texts[:, 1:], texts).unsqueeze(-1)
        is_question = torch.zeros_like(similarity)
        is_question[:, :, 0] = 1
        features = [lag, (8 * lag).tanh(), (-(8 * lag).square()).exp(), similarity, is_question]
        pair = self.pair(torch.cat(features, -1))
        # The content is small at first: without the norm the question would learn the sense of
        # "earlier" late.
        content = self.norm(content)
        own, question = self.choice(content[:, 1:]), self.question(content[:, :1])
        each = self.sums(pair + (own + question).unsqueeze(2))
        c = mask.shape[1] - 1
        itself = functional.pad(torch.eye(c, dtype=torch.bool, device=mask.device), (1, 0))
        is_other = mask[:, None].expand(-1, c, -1) & ~itself
        weights = (is_other / is_other.sum(-1, keepdim=True).clamp_min(1)).to(each.dtype)
        mean = torch.einsum("nco,ncow->ncw", weights, each)
        hidden: torch.Tensor = self.last(torch.cat([own + question, mean], -1))
        return hidden


def _pad(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return `(N, C, ...)`, `values` where `mask` `(N, C)` is True and zeros elsewhere."""
    out = torch.zeros(*mask.shape, *values.shape[1:], dtype=values.dtype, device=values.device)
    out[mask] = values
    return out
