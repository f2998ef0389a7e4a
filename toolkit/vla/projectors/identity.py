"""The frozen encoder itself."""

from __future__ import annotations

import torch

from vla.nn.packing import Packing
from vla.projectors.base import ResidualProjector


class Projector(ResidualProjector):
    """Normalises and changes nothing: the baseline that every trained run is compared with.

    Args:
        dim: width of the features.
    """

    def change_frames(self, seen: torch.Tensor, seconds: torch.Tensor, layout: Packing) -> torch.Tensor:
        """Zero."""
        return torch.zeros_like(seen)

    def change_text(self, seen: torch.Tensor) -> torch.Tensor:
        """Zero."""
        return torch.zeros_like(seen)
