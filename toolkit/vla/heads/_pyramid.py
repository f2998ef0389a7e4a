"""Frames read for a query, at strides 1, 2, 4 and so on: the network under `moments`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Pyramid(nn.Module):
    """What `width` channels know at every stride; the same weights at each, so a video may be of any length.

    Padding is zero throughout: a video is read alike alone and beside longer ones.

    Args:
        width: of what comes out.
        dropout: of hidden units.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fine = Block(width, dropout)
        self.down = nn.Conv1d(width, width, kernel_size=4, stride=2, padding=1)
        self.coarse = Block(width, dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, levels: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Of each level `(N, ceil(T / 2 ** level), width)`, and which of its points there are.

        Args:
            hidden: `(N, T, width)`.
            mask: `(N, T)` bool, True for real frames, which come first.
            levels: at most so many; a video has those at which it has two points, and the first.
        """
        hidden = self.fine(hidden, mask)
        found = [(hidden, mask)]
        while len(found) < levels and hidden.shape[1] >= 2:
            hidden, before = _even(hidden), functional.pad(mask, (0, mask.shape[1] % 2))
            mask = before[:, ::2]
            means = (hidden[:, ::2] + hidden[:, 1::2]) / (before[:, ::2].int() + before[:, 1::2].int())[
                ..., None
            ].clamp_min(1)
            hidden = (means + self.down(hidden.transpose(1, 2)).transpose(1, 2)) * mask.unsqueeze(-1)
            hidden = self.coarse(hidden, mask)
            found.append((hidden, mask & (mask.sum(1, keepdim=True) > 1)))
        return found


class Block(nn.Module):
    """A residual convolution over time."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.near = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(N, T, width)`, zero where `mask` `(N, T)` is False."""
        shown = mask.unsqueeze(-1)
        near = self.near((self.norm(hidden) * shown).transpose(1, 2)).transpose(1, 2)
        return (hidden + self.dropout(self.out(functional.gelu(near)))) * shown


def _even(hidden: torch.Tensor) -> torch.Tensor:
    return functional.pad(hidden, (0, 0, 0, hidden.shape[1] % 2))
