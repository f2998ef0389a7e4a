"""A bottleneck adapter on every frame and every text, each by itself."""

from __future__ import annotations

import torch

from vla.nn.packing import Packing
from vla.projectors._layers import Bottleneck
from vla.projectors.base import ResidualProjector


class Projector(ResidualProjector):
    """Each frame and each text is moved by a small network of its own kind; time plays no part.

    Args:
        dim: width of the features.
        width: hidden units of each network.
        dropout: of the hidden units.
        noise: standard deviation of what is added to the whitened features in training.
    """

    def __init__(self, dim: int, width: int = 128, dropout: float = 0.1, noise: float = 0.5) -> None:
        super().__init__(dim, noise)
        self.frames = Bottleneck(dim, width, dropout)
        self.text = Bottleneck(dim, width, dropout)

    def change_frames(self, seen: torch.Tensor, seconds: torch.Tensor, layout: Packing) -> torch.Tensor:
        """The frame network, frame by frame."""
        return self.frames(seen)

    def change_text(self, seen: torch.Tensor) -> torch.Tensor:
        """The text network."""
        return self.text(seen)
