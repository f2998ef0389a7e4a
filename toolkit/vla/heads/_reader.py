"""What a text looks for in a video: attention over its frames, which know when they are shown."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class Reader(nn.Module):
    """Texts read videos: `(N, width)` of what each text found in its video.

    A short convolution lets frames see their neighbours; their place in the video, and their time, are a part of them.

    Args:
        dim: width of the aligned vectors.
        width: of what comes out; a multiple of `heads`.
        heads: of the attention.
        dropout: of hidden units.
    """

    def __init__(self, dim: int, width: int, heads: int = 4, dropout: float = 0.2) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.frames = nn.Linear(dim, width)
        self.texts = nn.Linear(dim, width)
        self.near = nn.Conv1d(width, width, kernel_size=5, padding=2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.network = nn.Sequential(
            nn.Linear(3 * width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, texts: torch.Tensor, rows: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor
    ) -> torch.Tensor:
        """What the texts found.

        Args:
            texts: `(N, E)`.
            rows: `(N,)` which video each text reads.
            frames: `(B, T, E)`.
            mask: `(B, T)` bool, True for real frames.
            seconds: `(B, T)` when each is shown.
        """
        # Unit vectors have entries of about E ** -0.5: brought to about 1.
        spread = math.sqrt(frames.shape[-1])
        hidden = self.frames(frames * spread) + _places(mask, seconds, self.width)
        hidden = hidden * mask.unsqueeze(-1)
        near = self.near(self.norms[0](hidden).mul(mask.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2)
        hidden = self.norms[1](hidden + self.dropout(functional.gelu(near)))
        asked = self.norms[2](self.texts(texts * spread))
        key, value = self.key_value(hidden).chunk(2, -1)
        found = self._attend(self.query(asked), key, value, rows, mask)
        out: torch.Tensor = self.network(torch.cat([asked, found, asked * found], -1))
        return out

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        n, width = query.shape
        parts = (self.heads, width // self.heads)
        scores = torch.einsum("nhw,nthw->nht", query.view(n, *parts), key.view(*key.shape[:2], *parts)[rows])
        scores = scores / math.sqrt(parts[1])
        shares = scores.masked_fill(~mask[rows][:, None], -torch.inf).softmax(-1)
        return torch.einsum("nht,nthw->nhw", shares, value.view(*value.shape[:2], *parts)[rows]).reshape(n, width)


def _places(mask: torch.Tensor, seconds: torch.Tensor, width: int) -> torch.Tensor:
    """`(B, T, width)`: half of it says how far into its video a frame is, half at which second."""
    last = (seconds * mask).amax(1, keepdim=True).clamp_min(1e-6)
    return torch.cat([_waves(4 * seconds / last, width // 2), _waves(seconds, width - width // 2)], -1)


def _waves(seconds: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of `seconds` with periods from 2 to 200."""
    half = width // 2
    periods = 2.0 * 100.0 ** (torch.arange(half, device=seconds.device) / max(1, half - 1))
    phase = 2 * math.pi * seconds.float().unsqueeze(-1) / periods
    return functional.pad(torch.cat([phase.sin(), phase.cos()], -1), (0, width - 2 * half))
