"""Real frames of a padded batch, end to end and back: linear work is done on what is there, and padding costs next to nothing."""

from __future__ import annotations

from typing import Any

import torch


class Packing:
    """Where the real frames of a batch lie, in rows one after the other and in the padded batch.

    Attributes:
        mask: `(B, T)` bool, True for real frames, which come first.
        index: `(N,)` int64, the place of each real frame among the `B * T`.
        starts: `(B,)` int64, where each video's frames begin among the `N`.
    """

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask
        self.index = mask.flatten().nonzero().squeeze(1)
        lengths = mask.sum(1)
        self.starts = lengths.cumsum(0) - lengths

    def rows(self, padded: torch.Tensor) -> torch.Tensor:
        """`(N, ...)` the real ones of `(B, T, ...)`."""
        found: torch.Tensor = _Taken.apply(padded.flatten(0, 1), self.index)
        return found

    def padded(self, rows: torch.Tensor) -> torch.Tensor:
        """`(B, T, ...)` of `(N, ...)`, zero at padding."""
        count = self.mask.numel()
        found: torch.Tensor = _Placed.apply(rows, self.index, count)
        return found.view(*self.mask.shape, *rows.shape[1:])

    def convolved(self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`(N, V)`: each video's rows `(N, W)` convolved in time, with zeros before its first and after its last.

        Args:
            rows: `(N, W)`.
            weight: `(V, W, K)`, K odd, as `torch.nn.Conv1d` has it.
            bias: `(V,)`; None for none.
        """
        size = weight.shape[2]
        edge = size // 2
        owner = self.index.div(self.mask.shape[1], rounding_mode="floor")
        place = torch.arange(len(rows), device=rows.device) + edge * owner
        apart = _Placed.apply(rows, place + edge, len(rows) + edge * (len(self.mask) + 1))
        count = len(apart) - size + 1
        around = torch.cat([apart[k : k + count] for k in range(size)], 1)
        found: torch.Tensor = _Taken.apply(
            torch.nn.functional.linear(around, weight.permute(0, 2, 1).flatten(1), bias), place
        )
        return found


class _Taken(torch.autograd.Function):
    """Rows by place, no place twice. The gradient of torch's own indexing would allow for twice, which is many times as slow."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.count = len(values)
        ctx.save_for_backward(index)
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        return _Placed.apply(gradient[0], index, ctx.count), None


class _Placed(torch.autograd.Function):
    """Rows put to places among `count`, no two to one; zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
        ctx.save_for_backward(index)
        return rows.new_zeros(count, *rows.shape[1:]).index_copy_(0, index, rows)

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return _Taken.apply(gradient[0], index), None, None
