"""Frames see their neighbours and the whole video, so that motion, which no frame shows, can be named."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from vla.errors import UsageError
from vla.nn.packing import Packing
from vla.projectors._layers import Dropout, zero_linear
from vla.projectors.base import ResidualProjector


class Projector(ResidualProjector):
    """Blocks of short convolution, attention over the video and a small network, between two linear maps.

    The convolution compares neighbouring frames (what moves), attention with true timestamps as positions tells before
    from after. Texts are moved by one linear map: a network learns the captions of a small collection by heart.

    Args:
        dim: width of the features.
        width: width inside the blocks.
        blocks: how many.
        heads: attention heads of each block.
        dropout: of hidden units.
        noise: standard deviation of what is added to the whitened features in training.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        blocks: int = 1,
        heads: int = 4,
        dropout: float = 0.3,
        noise: float = 0.5,
    ) -> None:
        super().__init__(dim, noise)
        self.enter = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = zero_linear(width, dim)
        self.text = zero_linear(dim, dim)

    def change_frames(self, seen: torch.Tensor, seconds: torch.Tensor, layout: Packing) -> torch.Tensor:
        """What the blocks make of the video."""
        hidden = self.enter(seen) + _time_waves(seconds, self.enter.out_features).to(seen.dtype)
        for block in self.blocks:
            hidden = block(hidden, layout)
        return self.leave(self.norm(hidden))

    def change_text(self, seen: torch.Tensor) -> torch.Tensor:
        """The linear map."""
        moved: torch.Tensor = self.text(seen)
        return moved


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"projector 'temporal' divides its width by its heads: {width} is no multiple of {heads}")
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.near = nn.Conv1d(width, width, kernel_size=5, padding=2)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, hidden: torch.Tensor, layout: Packing) -> torch.Tensor:
        # The ends of a video look like what they are: beyond them there is zero.
        near = layout.conv1d(self.norms[0](hidden), self.near.weight, self.near.bias)
        hidden = hidden + self.dropout(functional.gelu(near))
        hidden = hidden + self.dropout(self._attend(self.norms[1](hidden), layout))
        return hidden + self.dropout(self.network(self.norms[2](hidden)))

    def _attend(self, hidden: torch.Tensor, layout: Packing) -> torch.Tensor:
        # Only here videos lie side by side, padded, and only as wide as the block is.
        b, t = layout.mask.shape
        together = layout.pad(self.query_key_value(hidden)).view(b, t, 3, self.heads, -1)
        q, k, v = together.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=layout.mask[:, None, None, :])
        return self.mix(layout.unpad(mixed.transpose(1, 2).reshape(b, t, -1)))


def _time_waves(seconds: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of `seconds` `(N,)` with periods from 2 s to 2,000 s: `(N, width)`."""
    half = width // 2
    periods = 2.0 * 1000.0 ** (torch.arange(half, device=seconds.device, dtype=torch.float32) / max(1, half - 1))
    phase = 2 * math.pi * seconds.float().unsqueeze(-1) / periods
    waves = torch.cat([phase.sin(), phase.cos()], -1)
    return functional.pad(waves, (0, width - 2 * half))
