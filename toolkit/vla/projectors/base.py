"""What every projector is: a change added to the frozen features, so that no change is exactly the frozen encoder."""

from __future__ import annotations

import math

import torch
from torch import nn

from vla.batch import normalized
from vla.layout import Layout

_LEAST_SHRINKAGE = 1e-3
_ROWS_PER_DIRECTION = 10
"""A direction of the features is taken at its word when there are so many rows for each."""


class ResidualProjector(nn.Module):
    """`normalized(unit + alpha * change(seen))`, for frames and for texts, where `unit` is the normalised feature.

    `seen` is the same feature whitened: what the frozen encoder says faintly (of two captions that differ in one word for a
    direction, say) is as loud as the rest, and can be learned from. In training it is seen through noise, or a few hundred
    videos would be learned by heart.

    Subclasses define `change_frames` and `change_text`, whose last layer starts at zero: the projector is then exactly the
    identity at step 0, and scores are the frozen encoder's. `alpha` in [0, 1] is a dial between frozen and trained; 0 is
    the frozen encoder whatever was trained.
    """

    alpha: torch.Tensor

    def __init__(self, dim: int, noise: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("alpha", torch.tensor(1.0))
        self.frames_seen, self.texts_seen = Whitening(dim, noise), Whitening(dim, noise)

    def fit(self, frames: torch.Tensor, texts: torch.Tensor) -> None:
        """Learn what is usual from raw features `(N, D)` of frames and of texts to be trained on; nothing else changes."""
        self.frames_seen.fit(normalized(frames))
        self.texts_seen.fit(normalized(texts))

    def change_frames(self, seen: torch.Tensor, seconds: torch.Tensor, layout: Layout) -> torch.Tensor:
        """`(N, D)` what is added to the frames `seen` `(N, D)`, shown at `seconds` `(N,)`; `layout` says whose each is."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def change_text(self, seen: torch.Tensor) -> torch.Tensor:
        """`(Q, D)` what is added to the texts."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def project_frames(self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """Unit frames `(B, T, D)`, zero at padding.

        Args:
            frames: `(B, T, D)` raw features.
            mask: `(B, T)` bool, True for real frames.
            seconds: `(B, T)` when each frame is shown.
        """
        layout = Layout(mask)
        return layout.padded(self.project_rows(layout.rows(frames), layout.rows(seconds), layout))

    def project_rows(self, frames: torch.Tensor, seconds: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Unit frames `(N, D)` of raw `frames` `(N, D)`, shown at `seconds` `(N,)`: those of `layout`, one after the other."""
        unit = normalized(frames)
        return normalized(unit + self.alpha * self.change_frames(self.frames_seen(unit), seconds, layout))

    def project_text(self, texts: torch.Tensor) -> torch.Tensor:
        """Unit texts of the shape of `texts` `(..., D)` raw features; zero vectors stay zero."""
        real = (texts.abs().sum(-1, keepdim=True) > 0).to(texts.dtype)
        unit = normalized(texts)
        return normalized(unit + self.alpha * self.change_text(self.texts_seen(unit))) * real


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
        return noisy(white, self.noise) if self.training and self.noise else white


def noisy(values: torch.Tensor, deviation: float) -> torch.Tensor:
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
            nn.LayerNorm(dim), nn.Linear(dim, width), nn.GELU(), nn.Dropout(dropout), zero_linear(width, dim)
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The change for each vector by itself."""
        return self.layers(values)
