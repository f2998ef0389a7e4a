"""Which video does this text tell of?"""

from __future__ import annotations

from typing import Any

import torch

from vla.batch import Aligned, AlignmentBatch
from vla.heads import base


class Head(base.Head):
    """Cosine of text and mean frame: no parameters, and what the index computes. Its loss is that of the global level.

    Args:
        dim: width of the aligned vectors.
    """

    asks = "videos"

    def __init__(self, dim: int = 0) -> None:
        super().__init__()

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` cosines of every query with every video."""
        return aligned.queries @ aligned.videos.T

    def positives(self, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` bool: the query's own video."""
        rows = torch.arange(len(batch.frames), device=batch.video_of_query.device)
        return batch.video_of_query[:, None] == rows[None]

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """For each query the rows of the videos, best first."""
        return list(predictions.argsort(dim=1, descending=True, stable=True).tolist())
