"""Attention of texts over the frames of their videos, with timestamps as positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import AlignedBatch, AlignmentBatch


@dataclass(frozen=True)
class TextAttention:
    """Result of the attention of N texts over their videos.

    Attributes:
        content: `(N, width)` features of the text and of the frames that it attends to.
        positions: `(N, heads)` mean relative time of these frames, 0 to 1, for each attention head;
            0 for a blind batch.
        texts: `(N, width)` features of the text alone.
        frames: `(B, T, width)` features of the frames, including their neighbours and times.
    """

    content: torch.Tensor
    positions: torch.Tensor
    texts: torch.Tensor
    frames: torch.Tensor


class Reader(nn.Module):
    """Cross-attention of texts over frames, biased by their cosine.

    After alignment the cosine alone locates the moment of a text: the attention starts from it (as
    in X-Pool, Gorti et al., CVPR 2022) and learns the rest. A short convolution adds the neighbours
    of each frame; its relative and its absolute time are added as position encodings.

    Args:
        dim: width of the aligned vectors.
        width: of the result; a multiple of `heads`.
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
            nn.Linear(3 * width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, texts: torch.Tensor, rows: torch.Tensor, aligned: AlignedBatch, batch: AlignmentBatch
    ) -> TextAttention:
        """Return the features of each text in its video.

        Args:
            texts: `(N, E)` unit vectors.
            rows: `(N,)` int64, the video of each text.
            aligned: the videos, or their blind version.
            batch: for the timestamps of the frames.
        """
        frames, mask = aligned.frames, aligned.frame_mask
        relative = _relative_time(batch.seconds[:, : frames.shape[1]], mask)
        # Unit vectors have entries of about E ** -0.5, scaled to about 1.
        spread = math.sqrt(frames.shape[-1])
        encoding = _position_encoding(relative, batch.seconds[:, : frames.shape[1]], self.width)
        hidden = self.frames(frames * spread) + encoding
        hidden = hidden * mask.unsqueeze(-1)
        near = self.near(self.norms[0](hidden).mul(mask.unsqueeze(-1)).transpose(1, 2)).transpose(
            1, 2
        )
        hidden = self.norms[1](hidden + self.dropout(functional.gelu(near)))
        text = self.norms[2](self.texts(texts * spread))
        key, value = self.key_value(hidden).chunk(2, -1)
        cosines = aligned.scale * torch.einsum("ne,nte->nt", texts, frames[rows])
        weights = self._weights(self.query(text), key, cosines, rows, mask)
        context = torch.einsum("nht,nthw->nhw", weights, _split(value, self.heads)[rows]).flatten(1)
        positions = torch.einsum("nht,nt->nh", weights, relative[rows])
        content = self.network(torch.cat([text, context, text * context], -1))
        return TextAttention(content, positions, text, hidden)

    def _weights(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        cosines: torch.Tensor,
        rows: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        scores = torch.einsum(
            "nhw,nthw->nht", _split(query, self.heads), _split(key, self.heads)[rows]
        )
        scores = (
            scores / math.sqrt(self.width // self.heads) + self.likeness[:, None] * cosines[:, None]
        )
        return scores.masked_fill(~mask[rows][:, None], -torch.inf).softmax(-1)


def _split(hidden: torch.Tensor, heads: int) -> torch.Tensor:
    return hidden.unflatten(-1, (heads, hidden.shape[-1] // heads))


def _relative_time(seconds: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return `(B, T)`, the time of each frame relative to its video's last frame, 0 to 1."""
    return seconds * mask / (seconds * mask).amax(1, keepdim=True).clamp_min(1e-6)


def _position_encoding(relative: torch.Tensor, seconds: torch.Tensor, width: int) -> torch.Tensor:
    """Return `(B, T, width)`, half an encoding of the relative time of a frame, half one of its
    second.
    """
    return torch.cat([_waves(4 * relative, width // 2), _waves(seconds, width - width // 2)], -1)


def _waves(seconds: torch.Tensor, width: int) -> torch.Tensor:
    """Return `(..., width)`, sines and cosines of `seconds` with periods from 2 to 200."""
    half = width // 2
    periods = 2.0 * 100.0 ** (torch.arange(half, device=seconds.device) / max(1, half - 1))
    phase = 2 * math.pi * seconds.float().unsqueeze(-1) / periods
    return functional.pad(torch.cat([phase.sin(), phase.cos()], -1), (0, width - 2 * half))
