"""Which of these choices answers the question?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vla.batch import Aligned, AlignmentBatch
from vla.heads import base
from vla.heads._reader import Reader


class Head(base.Head):
    """The choice that, said after its question, is most like the video; what a reader finds there moves the scores.

    Untrained, it is retrieval among the choices, which is how a frozen encoder answers. The form, question and choice as
    one text, is common to multiple-choice heads (e.g. Xiao et al., NExT-QA, CVPR 2021); the reader is ours.

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
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(N, C)` scores of the choices of the N questions that have some; -inf at padding."""
        asked = batch.questions.of_kind("choice")
        mask = batch.questions.choice_mask[asked]
        rows = batch.questions.video_of_question[asked][:, None].expand(mask.shape)[mask]
        texts = aligned.choices[asked][mask]
        seconds = batch.seconds[:, : aligned.frames.shape[1]]
        plain = aligned.scale * (texts * aligned.videos[rows]).sum(-1)
        learned = self.score(self.reader(texts, rows, aligned.frames, aligned.frame_mask, seconds)).squeeze(-1)
        scores = torch.full(mask.shape, -torch.inf, dtype=learned.dtype, device=learned.device)
        return scores.masked_scatter(mask, plain.to(learned.dtype) + learned)

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """Cross-entropy of the choices."""
        right = batch.questions.right[batch.questions.of_kind("choice")]
        if not (right >= 0).any():
            return None
        return functional.cross_entropy(self(aligned, batch)[right >= 0], right[right >= 0])

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Index of the best choice of each question."""
        return [int(i) for i in predictions.argmax(1)] if len(predictions) else []
