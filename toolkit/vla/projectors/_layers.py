"""What projectors are built from: whitening, layers that start as zero, and dropout that is cheap on a CPU."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from vla.errors import UsageError

_LEAST_SHRINKAGE = 1e-3
_ROWS_PER_DIRECTION = 10
"""A direction of the features is taken at its word when there are so many rows for each."""


class Whitening(nn.Module):
    """`(x - center) @ matrix`: features without their common direction, spread equally over all directions.

    In training, `noise` of that standard deviation is added. Until it is fitted it only brings unit vectors, whose entries
    are about `dim ** -0.5`, to entries of about 1.
    """

    center: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, dim: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim) * math.sqrt(dim))

    def fit(self, rows: torch.Tensor) -> None:
        """Take center and spread from `rows` `(N, D)`; directions that few rows can tell little about are spread less."""
        count, dim = rows.shape
        exact = rows.detach().double().cpu()
        center = exact.mean(0)
        values, vectors = torch.linalg.eigh((exact - center).T @ (exact - center) / max(1, count))
        mean = float(values.clamp_min(0).mean())
        if count < 2 or mean <= 0:
            return
        shrink = min(1.0, max(_LEAST_SHRINKAGE, dim / (_ROWS_PER_DIRECTION * count)))
        spread = (1 - shrink) * values.clamp_min(0) + shrink * mean
        self.center.copy_(center)
        self.matrix.copy_(vectors / spread.sqrt() @ vectors.T)

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        """The whitened vectors, of the same shape."""
        white = (unit - self.center) @ self.matrix
        return add_noise(white, self.noise) if self.training and self.noise else white


def add_noise(values: torch.Tensor, deviation: float) -> torch.Tensor:
    """`values` with noise of mean 0 and that standard deviation, equally spread.

    Normal numbers take a CPU several times as long, more than the product with the matrix, and sums over hundreds of either
    are alike.
    """
    words = torch.empty((values.numel() + 3) // 4, dtype=torch.int64, device=values.device).random_(-(2**63), None)
    noise = words.view(torch.int16)[: values.numel()].view(values.shape)
    return torch.add(values, noise, alpha=deviation * math.sqrt(12) / 2**16)


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
            nn.LayerNorm(dim), nn.Linear(dim, width), nn.GELU(), Dropout(dropout), zero_linear(width, dim)
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The change for each vector by itself."""
        return self.layers(values)


class Dropout(nn.Module):
    """In training, each value is 0 with probability `share` and otherwise larger by as much as keeps the mean.

    On a CPU the share is rounded to 1 / 256 and a random byte decides for each value, which takes less than half as long as
    torch's own, which draws a float for each; see tests/benchmarks/dropout.py. The default generator decides, as with torch.

    Raises:
        UsageError: the share is not in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise UsageError(f"dropout is a share of at least 0 and below 1, not {share}")
        self.share = share

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """`values`, or some of them."""
        if not self.training or not self.share:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.share)
        cut = min(255, round(self.share * 256))
        words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= cut
        return values * kept.to(values.dtype).mul_(256 / (256 - cut))

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{self.share}"
