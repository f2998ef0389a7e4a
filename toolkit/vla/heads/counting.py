"""How many, how often?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import Aligned, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.heads import base
from vla.heads._reader import Reader, TextAttention

_GATES = 16


class Head(base.Head):
    """A number: what a question finds in the video, and what adds up over its frames.

    Counts are regressed, as TGIF-QA's are (Jang et al., CVPR 2017). Gates, one value for each frame and question, are
    summed over the seconds that the frames stand for: what happens twice as often counts twice, however densely frames
    were taken. Untrained, it answers the mean of the counts that it is trained on.

    Args:
        dim: width of the aligned vectors.
        width: of the reader.
        dropout: of its hidden units.
    """

    asks = "count"
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
        """Mean and standard deviation of the counts of `corpus`."""
        counts = np.array([q.question.count for q in corpus.questions if q.question.count is not None], np.float64)
        if len(counts):
            self.mean.fill_(float(counts.mean()))
            self.spread.fill_(max(0.1, float(counts.std())))

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(N,)` counts, any real numbers, of the N questions that ask for one."""
        asked = batch.questions.of_kind("count")
        rows = batch.questions.video_of_question[asked]
        read = self.reader(aligned.questions[asked], rows, aligned, batch)
        sums = self._sums(read, rows, aligned, batch)
        return self.mean + self.spread * self.count(torch.cat([sums, functional.gelu(read.content)], -1)).squeeze(-1)

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """Mean squared error as a share of the variance of the counts: 1 at the start, like other losses."""
        counts = batch.questions.counts[batch.questions.of_kind("count")]
        told = ~counts.isnan()
        if not told.any():
            return None
        return ((self(aligned, batch)[told] - counts[told]) / self.spread).square().mean()

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """The number for each question, not rounded."""
        return [float(count) for count in predictions]

    def _sums(self, read: TextAttention, rows: torch.Tensor, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(N, gates)`: for each question, how many seconds' worth of frames each gate is open."""
        hidden = self.frame(read.frames)[rows] + self.question(read.asked)[:, None]
        open_ = self.gates(functional.gelu(hidden)).sigmoid()
        return torch.einsum("ntg,nt->ng", open_, _lasting(aligned, batch)[rows])


def _lasting(aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
    """`(B, T)` seconds that each frame stands for, on average over its video; 1 for a single frame, 0 at padding."""
    mask = aligned.frame_mask
    last = (batch.seconds[:, : mask.shape[1]] * mask).amax(1)
    count = mask.sum(1)
    each = torch.where(count > 1, last / (count - 1).clamp_min(1), torch.ones_like(last))
    return each[:, None] * mask
