"""Layers of projectors: standardization, layers initialized to zero, and dropout that is fast
on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from vla.errors import UsageError


class Standardization(nn.Module):
    """Standardization `(x - center) * scale`: features without their mean, of a mean variance of 1.

    One scale for all directions: whitening, which gives each direction the same variance, amplifies
    those that a small collection hardly shows (docs/development/decisions/whitening.md). Before
    `fit` the entries of unit vectors, about `dim ** -0.5`, are scaled to about 1.

    Args:
        dim: width of the features.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("scale", torch.tensor(math.sqrt(dim)))

    def fit(self, rows: torch.Tensor) -> None:
        """Estimate mean and mean variance from `rows` `(N, D)`; rows that are all equal, or a single
        one, change nothing.
        """
        samples = rows.detach().double().cpu()
        center = samples.mean(0)
        variance = float((samples - center).square().mean())
        if len(rows) < 2 or variance <= 0:
            return
        self.center.copy_(center)
        self.scale.fill_(variance**-0.5)

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        """Return the standardized vectors, of the same shape."""
        return (unit - self.center) * self.scale


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
