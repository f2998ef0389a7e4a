"""What a text looks for in a video: attention over its frames, which know when they are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import Aligned, AlignmentBatch


@dataclass(frozen=True)
class TextAttention:
    """What N texts found in their videos.

    Attributes:
        content: `(N, width)` of the text and of what it found.
        places: `(N, heads)` how far into its video each head of the attention looked, 0 to 1; 0 where nothing is seen.
        asked: `(N, width)` the text alone.
        frames: `(B, T, width)` the frames, with their neighbours and their times in them.
    """

    content: torch.Tensor
    places: torch.Tensor
    asked: torch.Tensor
    frames: torch.Tensor


class Reader(nn.Module):
    """Texts read videos: a text attends to the frames that are like it, and to what it has learned to look for.

    Where alignment taught frames the words for what happens in them, the cosine by itself finds the moment that a text
    tells of: the attention starts from there (as in X-Pool, Gorti et al., CVPR 2022), and learns the rest. A short
    convolution lets frames see their neighbours; their place in the video, and their time, are a part of them.

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
        self.likeness = nn.Parameter(torch.linspace(0.5, 2.0, heads))
        self.network = nn.Sequential(
            nn.Linear(3 * width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, texts: torch.Tensor, rows: torch.Tensor, aligned: Aligned, batch: AlignmentBatch
    ) -> TextAttention:
        """What the texts found.

        Args:
            texts: `(N, E)` unit vectors.
            rows: `(N,)` which video each text reads.
            aligned: the videos; they may be hidden.
            batch: when their frames are shown.
        """
        frames, mask = aligned.frames, aligned.frame_mask
        far = _far(batch.seconds[:, : frames.shape[1]], mask)
        # Unit vectors have entries of about E ** -0.5: brought to about 1.
        spread = math.sqrt(frames.shape[-1])
        hidden = self.frames(frames * spread) + _places(far, batch.seconds[:, : frames.shape[1]], self.width)
        hidden = hidden * mask.unsqueeze(-1)
        near = self.near(self.norms[0](hidden).mul(mask.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2)
        hidden = self.norms[1](hidden + self.dropout(functional.gelu(near)))
        asked = self.norms[2](self.texts(texts * spread))
        key, value = self.key_value(hidden).chunk(2, -1)
        alike = aligned.scale * torch.einsum("ne,nte->nt", texts, frames[rows])
        shares = self._shares(self.query(asked), key, alike, rows, mask)
        found = torch.einsum("nht,nthw->nhw", shares, _split(value, self.heads)[rows]).flatten(1)
        places = torch.einsum("nht,nt->nh", shares, far[rows])
        return TextAttention(self.network(torch.cat([asked, found, asked * found], -1)), places, asked, hidden)

    def _shares(
        self, query: torch.Tensor, key: torch.Tensor, alike: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        scores = torch.einsum("nhw,nthw->nht", _split(query, self.heads), _split(key, self.heads)[rows])
        scores = scores / math.sqrt(self.width // self.heads) + self.likeness[:, None] * alike[:, None]
        return scores.masked_fill(~mask[rows][:, None], -torch.inf).softmax(-1)


def _split(hidden: torch.Tensor, heads: int) -> torch.Tensor:
    return hidden.unflatten(-1, (heads, hidden.shape[-1] // heads))


def _far(seconds: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`(B, T)` how far into its video each frame is, 0 to 1."""
    return seconds * mask / (seconds * mask).amax(1, keepdim=True).clamp_min(1e-6)


def _places(far: torch.Tensor, seconds: torch.Tensor, width: int) -> torch.Tensor:
    """`(B, T, width)`: half of it says how far into its video a frame is, half at which second."""
    return torch.cat([_waves(4 * far, width // 2), _waves(seconds, width - width // 2)], -1)


def _waves(seconds: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of `seconds` with periods from 2 to 200: `(..., width)`."""
    half = width // 2
    periods = 2.0 * 100.0 ** (torch.arange(half, device=seconds.device) / max(1, half - 1))
    phase = 2 * math.pi * seconds.float().unsqueeze(-1) / periods
    return functional.pad(torch.cat([phase.sin(), phase.cos()], -1), (0, width - 2 * half))
