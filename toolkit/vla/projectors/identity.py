"""The frozen encoder itself."""

from __future__ import annotations

import torch

from vla.nn.packing import Packing
from vla.projectors.base import ResidualProjector


class Projector(ResidualProjector):
    """Projector without change, the baseline of every trained run.

    Args:
        dim: width of the features.
    """

    def change_frames(
        self, standardized: torch.Tensor, seconds: torch.Tensor, packing: Packing
    ) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(standardized)

    def change_text(self, standardized: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(standardized)
