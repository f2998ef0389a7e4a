"""Which of these choices answers the question?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import Aligned, AlignmentBatch
from vla.heads import base
from vla.heads._reader import Reader


class Head(base.Head):
    """The choice that, said after its question, is most like the video, moved by when each choice is found to happen.

    Untrained, it is retrieval among the choices, which is how a frozen encoder answers. The form, question and choice as
    one text, is common to multiple-choice heads (e.g. Xiao et al., NExT-QA, CVPR 2021). Ours is the rest: question and
    choices, each by itself, are looked for in the video, and each choice is compared with the question and with the other
    choices by what it says and by when it was found, so that first, last and after can be told.

    Args:
        dim: width of the aligned vectors.
        width: of the reader.
        dropout: of its hidden units.
    """

    asks = "choice"
    has_blind = True

    def __init__(self, dim: int, width: int = 128, dropout: float = 0.2) -> None:
        super().__init__()
        self.reader = Reader(dim, width, dropout=dropout)
        self.order = _Order(width, self.reader.heads, dropout)
        self.score = nn.Linear(width, 1, bias=False)  # a choice is right or wrong beside the others
        nn.init.zeros_(self.score.weight)

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(N, C)` scores of the choices of the N questions that have some; -inf at padding."""
        asked = batch.questions.of_kind("choice")
        mask = batch.questions.choice_mask[asked]
        videos = batch.questions.video_of_question[asked]
        plain = aligned.scale * torch.einsum("nce,ne->nc", aligned.choices[asked], aligned.videos[videos])
        texts = torch.cat([aligned.questions[asked][:, None], aligned.alone[asked]], 1)
        there = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        rows = videos[:, None].expand(there.shape)[there]
        read = self.reader(texts[there], rows, aligned, batch)
        content, places = (_padded(part, there) for part in (read.content, read.places))
        learned = self.score(self.order(content, places, texts, there)).squeeze(-1)
        return (plain.to(learned.dtype) + learned).masked_fill(~mask, -torch.inf)

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """Cross-entropy of the choices."""
        right = batch.questions.right[batch.questions.of_kind("choice")]
        if not (right >= 0).any():
            return None
        return functional.cross_entropy(self(aligned, batch)[right >= 0], right[right >= 0])

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Index of the best choice of each question."""
        return [int(i) for i in predictions.argmax(1)] if len(predictions) else []


class _Order(nn.Module):
    """Each choice compared with its question and with every other choice: how alike they are, and which comes before."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.pair = nn.Linear(3 * heads + 2, width)
        self.norm = nn.LayerNorm(width)
        self.choice, self.question = nn.Linear(width, width), nn.Linear(width, width)
        self.sums = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.last = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width), nn.GELU())

    def forward(
        self, content: torch.Tensor, places: torch.Tensor, texts: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """`(N, C, width)`; the first of the `1 + C` items of every argument is the question."""
        apart = places[:, 1:, None] - places[:, None]
        alike = torch.einsum("nce,noe->nco", texts[:, 1:], texts).unsqueeze(-1)
        is_question = torch.zeros_like(alike)
        is_question[:, :, 0] = 1
        pair = self.pair(torch.cat([apart, (8 * apart).tanh(), (-(8 * apart).square()).exp(), alike, is_question], -1))
        # What is read is faint at first: as it is, the question would decide late what being earlier means.
        content = self.norm(content)
        own, question = self.choice(content[:, 1:]), self.question(content[:, :1])
        each = self.sums(pair + (own + question).unsqueeze(2))
        c = there.shape[1] - 1
        other = there[:, None].expand(-1, c, -1) & ~functional.pad(
            torch.eye(c, dtype=torch.bool, device=there.device), (1, 0)
        )
        shares = (other / other.sum(-1, keepdim=True).clamp_min(1)).to(each.dtype)
        found: torch.Tensor = self.last(torch.cat([own + question, torch.einsum("nco,ncow->ncw", shares, each)], -1))
        return found


def _padded(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`(N, C, ...)` with `values` in their places and zeros at padding."""
    out = torch.zeros(*mask.shape, *values.shape[1:], dtype=values.dtype, device=values.device)
    out[mask] = values
    return out
