"""Layers of projectors: whitening, layers initialized to zero, and dropout that is fast
on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from vla.errors import UsageError

_MIN_SHRINKAGE = 1e-3
_ROWS_PER_DIRECTION = 10
"""Rows per direction from which on the sample covariance is used without shrinkage."""


class Whitening(nn.Module):
    """Whitening `(x - center) @ matrix`: features without their mean, of equal variance in all
    directions.

    Before `fit` it only scales unit vectors, whose entries are about `dim ** -0.5`, to entries of
    about 1.

    Args:
        dim: width of the features.
        noise: standard deviation of noise that is added in training.
    """

    center: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, dim: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim) * math.sqrt(dim))

    def fit(self, rows: torch.Tensor) -> None:
        """Estimate mean and covariance from `rows` `(N, D)`, with shrinkage of the covariance for
        few rows.
        """
        count, dim = rows.shape
        samples = rows.detach().double().cpu()
        center = samples.mean(0)
        values, vectors = torch.linalg.eigh(
            (samples - center).T @ (samples - center) / max(1, count)
        )
        mean = float(values.clamp_min(0).mean())
        if count < 2 or mean <= 0:
            return
        shrinkage = min(1.0, max(_MIN_SHRINKAGE, dim / (_ROWS_PER_DIRECTION * count)))
        variances = (1 - shrinkage) * values.clamp_min(0) + shrinkage * mean
        self.center.copy_(center)
        self.matrix.copy_(vectors / variances.sqrt() @ vectors.T)

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        """Return the whitened vectors, of the same shape."""
        white = (unit - self.center) @ self.matrix
        return add_noise(white, self.noise) if self.training and self.noise else white


def add_noise(values: torch.Tensor, deviation: float) -> torch.Tensor:
    """Return `values` plus uniform noise of mean 0 and the given standard deviation.

    Normal noise takes a CPU several times as long, more than the product with the matrix, and sums
    over hundreds of either have the same distribution.
    """
    words = torch.empty((values.numel() + 3) // 4, dtype=torch.int64, device=values.device).random_(
        -(2**63), None
    )
    noise = words.view(torch.int16)[: values.numel()].view(values.shape)
    return torch.add(values, noise, alpha=deviation * math.sqrt(12) / 2**16)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer of weight and bias 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Bottleneck(nn.Module):
    """Bottleneck of `width` hidden units, `(..., D)` to `(..., D)`; its output starts at zero."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, width),
            nn.GELU(),
            Dropout(dropout),
            zero_linear(width, dim),
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the change of each vector, independent of the others."""
        return self.layers(values)


class Dropout(nn.Module):
    """Dropout with probability `share`, from torch's default generator.

    On a CPU the share is rounded to 1 / 256 and each value uses a random byte, which takes less
    than half as long as torch's own, which draws a float for each; see tests/benchmarks/dropout.py.

    Raises:
        UsageError: the share is not in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise UsageError(f"dropout is a share of at least 0 and below 1, not {share}")
        self.share = share

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values` in evaluation mode, and `values` with some set to zero in training."""
        if not self.training or not self.share:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.share)
        threshold = min(255, round(self.share * 256))
        words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        mask = words.view(torch.uint8)[: values.numel()].view(values.shape) >= threshold
        return values * mask.to(values.dtype).mul_(256 / (256 - threshold))

    def extra_repr(self) -> str:
        """Return the arguments for `repr`."""
        return f"{self.share}"
