"""What every projector is: a change added to the frozen features, so that no change is exactly the frozen encoder."""

from __future__ import annotations

import torch
from torch import nn

from vla.batch import normalized


class ResidualProjector(nn.Module):
    """`normalized(unit + alpha * change(unit))`, for frames and for texts, where `unit` is the normalised feature.

    Subclasses define `change_frames` and `change_text`, whose last layer starts at zero: the projector is then exactly the
    identity at step 0, and scores are the frozen encoder's. `alpha` in [0, 1] is a dial between frozen and trained; 0 is
    the frozen encoder whatever was trained.
    """

    alpha: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("alpha", torch.tensor(1.0))

    def change_frames(self, unit: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """`(B, T, D)` what is added to the frames; padding is ignored afterwards and must not leak into the rest."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def change_text(self, unit: torch.Tensor) -> torch.Tensor:
        """`(Q, D)` what is added to the texts."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def project_frames(self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """Unit frames `(B, T, D)`, zero at padding.

        Args:
            frames: `(B, T, D)` raw features.
            mask: `(B, T)` bool, True for real frames.
            seconds: `(B, T)` when each frame is shown.
        """
        unit = normalized(frames) * mask.unsqueeze(-1)
        moved = normalized(unit + self.alpha * self.change_frames(unit, mask, seconds))
        return moved * mask.unsqueeze(-1)

    def project_text(self, texts: torch.Tensor) -> torch.Tensor:
        """Unit texts of the shape of `texts` `(..., D)` raw features; zero vectors stay zero."""
        real = (texts.abs().sum(-1, keepdim=True) > 0).to(texts.dtype)
        unit = normalized(texts)
        return normalized(unit + self.alpha * self.change_text(unit)) * real


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts as zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Bottleneck(nn.Module):
    """`(..., D)` to `(..., D)` through `width` hidden units; starts as zero."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, width), nn.GELU(), nn.Dropout(dropout), zero_linear(width, dim)
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The change for each vector by itself."""
        return self.layers(values)
