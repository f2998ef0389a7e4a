"""Counting: the answer to "how many" and "how often" as a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.heads import base
from vla.heads._reader import Reader, TextAttention

_GATES = 16


class Head(base.Head):
    """Regression of counts, as in TGIF-QA (Jang et al., CVPR 2017).

    Gates, values for each frame and question, are summed over the seconds that the frames
    represent: an event that occurs twice as often counts twice, whatever the sampling rate.
    Untrained, it predicts the mean of the training counts.

    Args:
        dim: width of the aligned vectors.
        width: of the reader.
        dropout: of its hidden units.
    """

    task = "count"
    has_blind = True
    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, dim: int, width: int = 128, dropout: float = 0.2) -> None:
        super().__init__()
        self.reader = Reader(dim, width, dropout=dropout)
        self.frame, self.question = nn.Linear(width, width), nn.Linear(width, width)
        self.gates = nn.Linear(width, _GATES)
        self.count = nn.Linear(_GATES + width, 1)
        nn.init.zeros_(self.count.weight)
        nn.init.zeros_(self.count.bias)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, corpus: Corpus) -> None:
        """Set the mean and the standard deviation of the counts of `corpus`."""
        counts = np.array(
            [q.question.count for q in corpus.questions if q.question.count is not None], np.float64
        )
        if len(counts):
            self.mean.fill_(float(counts.mean()))
            self.spread.fill_(max(0.1, float(counts.std())))

    def forward(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor:
        """Return `(N,)` counts, any real numbers, of the N counting questions."""
        questions = batch.questions.of_kind("count")
        rows = batch.questions.video_of_question[questions]
        attention = self.reader(aligned.questions[questions], rows, aligned, batch)
        features = torch.cat(
            [self._sums(attention, rows, aligned, batch), functional.gelu(attention.content)], -1
        )
        return self.mean + self.spread * self.count(features).squeeze(-1)

    def loss(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor | None:
        """Return the mean squared error as a share of the variance of the counts: 1 at
        the start.
        """
        counts = batch.questions.counts[batch.questions.of_kind("count")]
        has_count = ~counts.isnan()
        if not has_count.any():
            return None
        return ((self(aligned, batch)[has_count] - counts[has_count]) / self.spread).square().mean()

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Return the number for each question, not rounded."""
        return [float(count) for count in predictions]

    def _sums(
        self,
        attention: TextAttention,
        rows: torch.Tensor,
        aligned: AlignedBatch,
        batch: AlignmentBatch,
    ) -> torch.Tensor:
        """Return `(N, gates)`, the seconds for which each gate is open, for each question."""
        hidden = self.frame(attention.frames)[rows] + self.question(attention.texts)[:, None]
        gates = self.gates(functional.gelu(hidden)).sigmoid()
        return torch.einsum("ntg,nt->ng", gates, _frame_seconds(aligned, batch)[rows])


def _frame_seconds(aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor:
    """Return `(B, T)`, the mean duration of a frame of each video.

    1 for a single frame, 0 at padding.
    """
    mask = aligned.frame_mask
    last = (batch.seconds[:, : mask.shape[1]] * mask).amax(1)
    count = mask.sum(1)
    each = torch.where(count > 1, last / (count - 1).clamp_min(1), torch.ones_like(last))
    return each[:, None] * mask
