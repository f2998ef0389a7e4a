"""Base class of projectors: a learned change added to the frozen features."""

from __future__ import annotations

import torch
from torch import nn

from vla.nn.l2_normalize import l2_normalize
from vla.nn.packing import Packing
from vla.projectors._layers import Whitening


class ResidualProjector(nn.Module):
    """Projector `l2_normalize(start + alpha * change(whitened))` of frames and of texts.

    `start` is the normalized feature, `whitened` the whitened one. Whitening amplifies directions
    in which the frozen encoder varies little, for instance between two captions that differ in one
    word, so that they can be learned from. Noise on it in training prevents overfitting to a few
    hundred videos.

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

    def __init__(self, dim: int, noise: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("alpha", torch.tensor(1.0))
        self.register_buffer("centring", torch.tensor(0.0))
        self.frames_seen, self.texts_seen = Whitening(dim, noise), Whitening(dim, noise)

    def fit(self, frames: torch.Tensor, texts: torch.Tensor) -> None:
        """Estimate the whitening from raw features `(N, D)` of training frames and texts."""
        self.frames_seen.fit(l2_normalize(frames))
        self.texts_seen.fit(l2_normalize(texts))

    def change_frames(
        self, whitened: torch.Tensor, seconds: torch.Tensor, packing: Packing
    ) -> torch.Tensor:
        """Return the change `(N, D)` of each frame.

        Args:
            whitened: `(N, D)` packed frames.
            seconds: `(N,)` their timestamps.
            packing: their positions in the batch.
        """
        raise TypeError(f"{type(self).__name__} does not define change_frames")

    def change_text(self, whitened: torch.Tensor) -> torch.Tensor:
        """Return the change `(Q, D)` of each text."""
        raise TypeError(f"{type(self).__name__} does not define change_text")

    def start_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors `(..., D)` that changes are added to: raw `frames`, normalized
        and centered.
        """
        return self._center(l2_normalize(frames), self.frames_seen)

    def start_text(self, texts: torch.Tensor) -> torch.Tensor:
        """Return the same of raw `texts`."""
        return self._center(l2_normalize(texts), self.texts_seen)

    def _center(self, unit: torch.Tensor, whitening: Whitening) -> torch.Tensor:
        return l2_normalize(unit - self.centring * whitening.center)

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
        start = self._center(unit, self.frames_seen)
        return l2_normalize(
            start + self.alpha * self.change_frames(self.frames_seen(unit), seconds, packing)
        )

    def project_text(self, texts: torch.Tensor) -> torch.Tensor:
        """Return unit texts of raw features `(..., D)`, of the same shape.

        Zero vectors stay zero.
        """
        real = (texts.abs().sum(-1, keepdim=True) > 0).to(texts.dtype)
        unit = l2_normalize(texts)
        change = self.change_text(self.texts_seen(unit))
        return l2_normalize(self._center(unit, self.texts_seen) + self.alpha * change) * real
