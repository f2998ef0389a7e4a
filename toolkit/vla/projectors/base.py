"""Base class of projectors: a learned change added to the frozen features."""

from __future__ import annotations

import torch
from torch import nn

from vla.nn.l2_normalize import l2_normalize
from vla.nn.packing import Packing
from vla.projectors._layers import Standardization


class ResidualProjector(nn.Module):
    """Projector `l2_normalize(start + alpha * change(standardized))` of frames and of texts.

    `start` is the normalized feature, `standardized` the same without its mean and of a mean
    variance of 1.

    Subclasses define `change_frames` and `change_text`, whose last layer starts at zero: at step 0
    the projector is exactly the frozen encoder.

    Attributes:
        alpha: scalar in [0, 1], the weight of the learned change; 0 is the frozen encoder.
        centring: scalar in [0, 1], the share of the mean of all frames that is subtracted from each
            frame, and of the mean of all texts from each text, before the change is added; 0 at
            first.
    """

    alpha: torch.Tensor
    centring: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("alpha", torch.tensor(1.0))
        self.register_buffer("centring", torch.tensor(0.0))
        self.frame_statistics, self.text_statistics = Standardization(dim), Standardization(dim)

    def fit(self, frames: torch.Tensor, texts: torch.Tensor) -> None:
        """Estimate the statistics of raw features `(N, D)` of training frames and texts."""
        self.frame_statistics.fit(l2_normalize(frames))
        self.text_statistics.fit(l2_normalize(texts))

    def change_frames(
        self, standardized: torch.Tensor, seconds: torch.Tensor, packing: Packing
    ) -> torch.Tensor:
        """Return the change `(N, D)` of each frame.

        Args:
            standardized: `(N, D)` packed frames.
            seconds: `(N,)` their timestamps.
            packing: their positions in the batch.
        """
        raise TypeError(f"{type(self).__name__} does not define change_frames")

    def change_text(self, standardized: torch.Tensor) -> torch.Tensor:
        """Return the change `(Q, D)` of each text."""
        raise TypeError(f"{type(self).__name__} does not define change_text")

    def start_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors `(..., D)` that changes are added to: raw `frames`, normalized
        and centered.
        """
        return self._center(l2_normalize(frames), self.frame_statistics)

    def start_text(self, texts: torch.Tensor) -> torch.Tensor:
        """Return the same of raw `texts`."""
        return self._center(l2_normalize(texts), self.text_statistics)

    def _center(self, unit: torch.Tensor, statistics: Standardization) -> torch.Tensor:
        return l2_normalize(unit - self.centring * statistics.center)

    def project_frames(
        self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor
    ) -> torch.Tensor:
        """Return unit frames `(B, T, D)`, zero at padding.

        Args:
            frames: `(B, T, D)` raw features.
            mask: `(B, T)` bool, True for real frames.
            seconds: `(B, T)` timestamps.
        """
        packing = Packing(mask)
        return packing.pad(
            self.project_rows(packing.unpad(frames), packing.unpad(seconds), packing)
        )

    def project_rows(
        self, frames: torch.Tensor, seconds: torch.Tensor, packing: Packing
    ) -> torch.Tensor:
        """Return unit frames `(N, D)`.

        Args:
            frames: `(N, D)` raw features, packed.
            seconds: `(N,)` timestamps.
            packing: positions of the frames in the batch.
        """
        unit = l2_normalize(frames)
        start = self._center(unit, self.frame_statistics)
        return l2_normalize(
            start + self.alpha * self.change_frames(self.frame_statistics(unit), seconds, packing)
        )

    def project_text(self, texts: torch.Tensor) -> torch.Tensor:
        """Return unit texts of raw features `(..., D)`, of the same shape.

        Zero vectors stay zero.
        """
        real = (texts.abs().sum(-1, keepdim=True) > 0).to(texts.dtype)
        unit = l2_normalize(texts)
        change = self.change_text(self.text_statistics(unit))
        return l2_normalize(self._center(unit, self.text_statistics) + self.alpha * change) * real
