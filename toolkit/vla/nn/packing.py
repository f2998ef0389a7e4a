"""Packing: the real frames of a padded batch, end to end and back.

Linear layers run on real frames alone, so padding costs next to nothing.
"""

from __future__ import annotations

from typing import Any

import torch


class Packing:
    """Positions of the real frames of a batch, in packed rows and in the padded batch.

    Attributes:
        mask: `(B, T)` bool, True for real frames, which come first.
        index: `(N,)` int64, position of each real frame among the `B * T`.
        starts: `(B,)` int64, first packed row of each video.
    """

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask
        self.index = mask.flatten().nonzero().squeeze(1)
        lengths = mask.sum(1)
        self.starts = lengths.cumsum(0) - lengths

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """Return the real frames `(N, ...)` of `(B, T, ...)`."""
        rows: torch.Tensor = _Gather.apply(padded.flatten(0, 1), self.index)
        return rows

    def pad(self, rows: torch.Tensor) -> torch.Tensor:
        """Return `(B, T, ...)` of `(N, ...)`, zero at padding."""
        padded: torch.Tensor = _Scatter.apply(rows, self.index, self.mask.numel())
        return padded.view(*self.mask.shape, *rows.shape[1:])

    def conv1d(
        self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Convolve each video in time, with zeros before its first and after its last frame.

        Args:
            rows: `(N, W)`.
            weight: `(V, W, K)`, K odd, as in `torch.nn.Conv1d`.
            bias: `(V,)`; None for no bias.

        Returns:
            `(N, V)`.
        """
        size = weight.shape[2]
        edge = size // 2
        owner = self.index.div(self.mask.shape[1], rounding_mode="floor")
        position = torch.arange(len(rows), device=rows.device) + edge * owner
        with_gaps = _Scatter.apply(rows, position + edge, len(rows) + edge * (len(self.mask) + 1))
        count = len(with_gaps) - size + 1
        windows = torch.cat([with_gaps[k : k + count] for k in range(size)], 1)
        products = torch.nn.functional.linear(windows, weight.permute(0, 2, 1).flatten(1), bias)
        convolution: torch.Tensor = _Gather.apply(products, position)
        return convolution


class _Gather(torch.autograd.Function):
    """Rows by distinct indices.

    The gradient of torch's own indexing allows for repeats, which is many times slower.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.count = len(values)
        ctx.save_for_backward(index)
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        return _Scatter.apply(gradient[0], index, ctx.count), None


class _Scatter(torch.autograd.Function):
    """Rows at distinct indices among `count`; zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
        ctx.save_for_backward(index)
        return rows.new_zeros(count, *rows.shape[1:]).index_copy_(0, index, rows)

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return _Gather.apply(gradient[0], index), None, None
