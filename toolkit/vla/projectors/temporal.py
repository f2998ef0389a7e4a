"""Temporal projector: convolution and attention over the frames of a video, for motion
and order.
"""

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
    """Blocks of short convolution, attention over the video and a small network, between two linear
    maps.

    The convolution compares neighbouring frames (motion); attention with timestamps as positions
    distinguishes before from after. Texts have one linear map: a network overfits to the captions
    of a small collection.

    Args:
        dim: width of the features.
        width: width of the blocks.
        blocks: number of blocks.
        heads: attention heads of each block.
        dropout: of hidden units.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        blocks: int = 1,
        heads: int = 4,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(dim)
        self.enter = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = zero_linear(width, dim)
        self.text = zero_linear(dim, dim)

    def change_frames(
        self, standardized: torch.Tensor, seconds: torch.Tensor, packing: Packing
    ) -> torch.Tensor:
        """Return the output of the blocks."""
        hidden = self.enter(standardized) + _time_encoding(seconds, self.enter.out_features).to(
            standardized.dtype
        )
        for block in self.blocks:
            hidden = block(hidden, packing)
        return self.leave(self.norm(hidden))

    def change_text(self, standardized: torch.Tensor) -> torch.Tensor:
        """Return the output of the linear map."""
        change: torch.Tensor = self.text(standardized)
        return change


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(
                f"projector 'temporal' divides its width by its heads: {width} is no multiple of "
                f"{heads}"
            )
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.near = nn.Conv1d(width, width, kernel_size=5, padding=2)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, hidden: torch.Tensor, packing: Packing) -> torch.Tensor:
        # Zeros beyond the ends of a video mark these ends.
        near = packing.conv1d(self.norms[0](hidden), self.near.weight, self.near.bias)
        hidden = hidden + self.dropout(functional.gelu(near))
        hidden = hidden + self.dropout(self._attend(self.norms[1](hidden), packing))
        return hidden + self.dropout(self.network(self.norms[2](hidden)))

    def _attend(self, hidden: torch.Tensor, packing: Packing) -> torch.Tensor:
        # The only step on padded videos, of the width of the block.
        b, t = packing.mask.shape
        padded = packing.pad(self.query_key_value(hidden)).view(b, t, 3, self.heads, -1)
        q, k, v = padded.permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=packing.mask[:, None, None, :]
        )
        return self.mix(packing.unpad(context.transpose(1, 2).reshape(b, t, -1)))


def _time_encoding(seconds: torch.Tensor, width: int) -> torch.Tensor:
    """Return `(N, width)`, sines and cosines of `seconds` `(N,)` with periods from 2 s
    to 2,000 s.
    """
    half = width // 2
    periods = 2.0 * 1000.0 ** (
        torch.arange(half, device=seconds.device, dtype=torch.float32) / max(1, half - 1)
    )
    phase = 2 * math.pi * seconds.float().unsqueeze(-1) / periods
    waves = torch.cat([phase.sin(), phase.cos()], -1)
    return functional.pad(waves, (0, width - 2 * half))
