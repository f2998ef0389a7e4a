"""Losses over pairs straight from vectors, some rows at a time: the matrix of all scores is never held.

What is computed is the loss of the whole matrix and its gradient, neither estimated nor delayed: every block of scores is
reduced to a number for each row, for each column and for each positive, thrown away, and made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vla.errors import ShapeError, UsageError
from vla.losses.base import widened

ELEMENTS = 1 << 22
"""Scores in a block: 16 MiB of float32, of which a few copies are alive at once."""

RowLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logarithms of the sums of exp of all scores `(n,)`; of the positives, the row `(K,)` and the score `(K,)` -> `(n,)`."""

BlockLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Scores `(rows, V)` and where the positives are in them, row `(k,)` and column `(k,)` -> a scalar."""


def both_ways(
    row_loss: RowLoss,
    queries: Tensor,
    videos: Tensor,
    scale: Tensor | float,
    positives: Tensor,
    left_out: Tensor | None,
    elements: int,
) -> Tensor:
    """What `base.both_ways` gives for the whole matrix; arguments as `PairLoss.of_vectors`."""
    blocks = _Blocks(queries, videos, positives, left_out, elements)
    if not len(queries) or not len(videos):
        return 0.0 * (queries.sum() + videos.sum())
    across, down, own = _LogSums.apply(queries, videos, blocks.number(scale), blocks)
    rows, columns = blocks.rows, blocks.columns
    return (_mean(row_loss, across, rows, own) + _mean(row_loss, down, columns, own)) / 2


def summed(
    block_loss: BlockLoss,
    queries: Tensor,
    videos: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    positives: Tensor,
    left_out: Tensor | None,
    elements: int,
) -> Tensor:
    """The sum of what `block_loss` makes of each run of rows; arguments as `PairLoss.of_vectors`."""
    blocks = _Blocks(queries, videos, positives, left_out, elements)
    total: Tensor = _Sum.apply(queries, videos, blocks.number(scale), blocks.number(bias), blocks, block_loss)
    return total


class _Blocks:
    """Runs of rows of the matrix `queries @ videos.T * scale`, and where in it the positives are, rows rising."""

    def __init__(
        self, queries: Tensor, videos: Tensor, positives: Tensor, left_out: Tensor | None, elements: int
    ) -> None:
        if queries.ndim != 2 or videos.ndim != 2 or queries.shape[1] != videos.shape[1]:
            raise ShapeError(
                f"queries {tuple(queries.shape)} and videos {tuple(videos.shape)} must be 2-D, of one width"
            )
        count, width = len(queries), len(videos)
        own = _keys(positives, count, width)
        out = own[:0] if left_out is None else _keys(left_out, count, width)
        own = own[~torch.isin(own, out)]
        self.rows, self.columns = own // max(1, width), own % max(1, width)
        self._out = out // max(1, width), out % max(1, width)
        self._like = torch.empty((), dtype=queries.dtype, device=queries.device)
        step = max(1, elements // max(1, width))
        self.runs = [(i, min(i + step, count)) for i in range(0, count, step)] if width else []

    def number(self, value: Tensor | float) -> Tensor:
        """`value` as a tensor of the type that is computed in."""
        return torch.as_tensor(value, dtype=widened(self._like).dtype, device=self._like.device)

    def scores(self, some: Tensor, videos: Tensor, factor: Tensor, first: int, last: int) -> Tensor:
        """`(last - first, V)` of those queries, the lowest finite score where a pair is left out.

        Its part of any sum is 0 and so is its gradient; -inf gives NaN where a whole row or column is left out.
        """
        found = widened(some) @ widened(videos).T * factor
        barred = _within(*self._out, first, last)
        return found.index_put(barred, found.new_tensor(torch.finfo(found.dtype).min / 4)) if len(barred[0]) else found


class _LogSums(torch.autograd.Function):
    """Logarithms of the sums of exp along each row and each column, and the scores of the positives."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, videos: Tensor, factor: Tensor, blocks: _Blocks
    ) -> tuple[Tensor, Tensor, Tensor]:
        across, own = [], []
        down = factor.new_full((len(videos),), -torch.inf)
        for first, last in blocks.runs:
            scores = blocks.scores(queries[first:last], videos, factor, first, last)
            across.append(scores.logsumexp(1))
            down = torch.logaddexp(down, scores.logsumexp(0))
            own.append(scores[_within(blocks.rows, blocks.columns, first, last)])
        found = torch.cat(across), down, torch.cat(own)
        ctx.save_for_backward(queries, videos, factor, *found[:2])
        ctx.blocks = blocks
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_across: Tensor, of_down: Tensor, of_own: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, videos, factor, across, down = ctx.saved_tensors
        blocks = ctx.blocks

        def slope(scores: Tensor, first: int, last: int) -> Tensor:
            found = (scores - down).exp_().mul_(of_down)
            found += (scores - across[first:last, None]).exp_().mul_(of_across[first:last, None])
            own = of_own[_between(blocks.rows, first, last)]
            return found.index_put_(_within(blocks.rows, blocks.columns, first, last), own, accumulate=True)

        return *_gradients(blocks, queries, videos, factor, slope)[:3], None


class _Sum(torch.autograd.Function):
    """The sum of a loss of each block of scores, to which a number is added first."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, videos: Tensor, factor: Tensor, shift: Tensor, blocks: _Blocks, loss: BlockLoss
    ) -> Tensor:
        total = torch.zeros_like(factor)
        for first, last in blocks.runs:
            scores = blocks.scores(queries[first:last], videos, factor, first, last) + shift
            total += loss(scores, *_within(blocks.rows, blocks.columns, first, last))
        ctx.save_for_backward(queries, videos, factor, shift)
        ctx.blocks, ctx.loss = blocks, loss
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        queries, videos, factor, shift = ctx.saved_tensors
        blocks = ctx.blocks

        def slope(scores: Tensor, first: int, last: int) -> Tensor:
            with torch.enable_grad():
                given = (scores + shift).requires_grad_()
                made = ctx.loss(given, *_within(blocks.rows, blocks.columns, first, last))
                (found,) = torch.autograd.grad(made, given)
            return found * of_total

        return *_gradients(blocks, queries, videos, factor, slope), None, None


def _gradients(
    blocks: _Blocks, queries: Tensor, videos: Tensor, factor: Tensor, slope: Callable[[Tensor, int, int], Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of queries, videos, the scale and what is added, from that of each block of scores."""
    wide = widened(videos)
    to_queries, to_videos = torch.empty_like(queries), torch.zeros_like(wide)
    to_factor, to_shift = torch.zeros_like(factor), torch.zeros_like(factor)
    for first, last in blocks.runs:
        some = widened(queries[first:last])
        found = slope(blocks.scores(some, videos, factor, first, last), first, last)
        to_shift += found.sum()
        moved = found @ wide
        to_factor += (moved * some).sum()
        to_queries[first:last] = moved * factor
        to_videos.addmm_(found.T, some)
    if not blocks.runs:
        to_queries.zero_()
    return to_queries, to_videos.mul_(factor).to(videos.dtype), to_factor, to_shift


def _keys(given: Tensor, rows: int, columns: int) -> Tensor:
    """Places `row * columns + column` of the pairs `(K, 2)` in the matrix, rising, each once.

    Raises:
        ShapeError: they are no pairs.
        UsageError: one points outside.
    """
    if given.ndim != 2 or given.shape[1] != 2 or given.dtype != torch.int64:
        raise ShapeError(f"pairs are (K, 2) int64, row and column, not {tuple(given.shape)} {given.dtype}")
    outside = (given < 0) | (given >= given.new_tensor([rows, columns]))
    if outside.any():
        wrong = given[outside.any(1)][0].tolist()
        raise UsageError(f"the pair {wrong} points outside of {rows} queries and {columns} videos")
    return torch.unique(given[:, 0] * columns + given[:, 1])


def _between(rows: Tensor, first: int, last: int) -> slice:
    begin, end = torch.searchsorted(rows, rows.new_tensor([first, last])).tolist()
    return slice(begin, end)


def _within(rows: Tensor, columns: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Those of the pairs, whose rows rise, that lie in rows `first` to `last`; rows counted from `first`."""
    some = _between(rows, first, last)
    return rows[some] - first, columns[some]


def _mean(row_loss: RowLoss, everything: Tensor, index: Tensor, scores: Tensor) -> Tensor:
    answered, place = torch.unique(index, return_inverse=True)
    losses = row_loss(everything[answered], place, scores)
    return losses.sum() / max(len(answered), 1)
