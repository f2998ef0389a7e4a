"""Temporal feature pyramid at strides 1, 2, 4, ..., the network of the head `moments`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Pyramid(nn.Module):
    """Features at every stride, with weights shared by all levels, so a video may have any length.

    Padding is zero throughout: the features of a video do not depend on longer ones in the batch.

    Args:
        width: channels.
        dropout: of hidden units.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fine = Block(width, dropout)
        self.down = nn.Conv1d(width, width, kernel_size=4, stride=2, padding=1)
        self.coarse = Block(width, dropout)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor, levels: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the features `(N, ceil(T / 2 ** level), width)` of each level, with the mask of
        its points.

        Args:
            hidden: `(N, T, width)`.
            mask: `(N, T)` bool, True for real frames, which come first.
            levels: maximum number of levels; a video has the first, and those with two points or
                more.
        """
        hidden = self.fine(hidden, mask)
        pyramid = [(hidden, mask)]
        while len(pyramid) < levels and hidden.shape[1] >= 2:
            hidden, before = _even(hidden), functional.pad(mask, (0, mask.shape[1] % 2))
            mask = before[:, ::2]
            means = (hidden[:, ::2] + hidden[:, 1::2]) / (
                before[:, ::2].int() + before[:, 1::2].int()
            )[..., None].clamp_min(1)
            hidden = (means + self.down(hidden.transpose(1, 2)).transpose(1, 2)) * mask.unsqueeze(
                -1
            )
            hidden = self.coarse(hidden, mask)
            pyramid.append((hidden, mask & (mask.sum(1, keepdim=True) > 1)))
        return pyramid


class Block(nn.Module):
    """Residual convolution over time."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.near = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return `(N, T, width)`, zero where `mask` `(N, T)` is False."""
        real = mask.unsqueeze(-1)
        near = self.near((self.norm(hidden) * real).transpose(1, 2)).transpose(1, 2)
        return (hidden + self.dropout(self.out(functional.gelu(near)))) * real


def _even(hidden: torch.Tensor) -> torch.Tensor:
    return functional.pad(hidden, (0, 0, 0, hidden.shape[1] % 2))
