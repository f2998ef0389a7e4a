"""Which video does this text tell of?"""

from __future__ import annotations

import torch
from torch import nn

from vla.batch import Aligned, AlignmentBatch


class Head(nn.Module):
    """Cosine of text and mean frame: no parameters, and what the index computes."""

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` cosines of every query with every video."""
        return aligned.queries @ aligned.videos.T

    def positives(self, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` bool: the query's own video."""
        rows = torch.arange(len(batch.frames), device=batch.video_of_query.device)
        return batch.video_of_query[:, None] == rows[None]
