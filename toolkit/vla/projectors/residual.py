"""Bottleneck adapters of single frames and texts."""

from __future__ import annotations

import torch

from vla.nn.packing import Packing
from vla.projectors._layers import Bottleneck
from vla.projectors.base import ResidualProjector


class Projector(ResidualProjector):
    """One bottleneck network for frames and one for texts, applied to each alone.

    Time has no effect.

    Args:
        dim: width of the features.
        width: hidden units of each network.
        dropout: of the hidden units.
    """

    def __init__(self, dim: int, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__(dim)
        self.frames = Bottleneck(dim, width, dropout)
        self.text = Bottleneck(dim, width, dropout)

    def change_frames(
        self, standardized: torch.Tensor, seconds: torch.Tensor, packing: Packing
    ) -> torch.Tensor:
        """Return the output of the frame network for each frame."""
        return self.frames(standardized)

    def change_text(self, standardized: torch.Tensor) -> torch.Tensor:
        """Return the output of the text network."""
        return self.text(standardized)
