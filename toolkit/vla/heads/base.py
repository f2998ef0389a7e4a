"""What every head is."""

from __future__ import annotations

from typing import Protocol

import torch

from vla.batch import Aligned, AlignmentBatch


class Head(Protocol):
    """An `nn.Module`. `forward` gives what its loss wants; `positives` what is right."""

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """Predictions for the batch."""

    def positives(self, batch: AlignmentBatch) -> torch.Tensor:
        """What is right, in the shape of the predictions."""
