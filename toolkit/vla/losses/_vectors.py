"""Losses over pairs computed from vectors, blockwise, without the matrix of all scores.

Loss and gradient are exactly those of the whole matrix: every block of scores is reduced to a
number for each row, for each column and for each positive, discarded, and computed again for the
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vla.errors import ShapeError, UsageError
from vla.losses.base import at_least_float32

ELEMENTS = 1 << 22
"""Scores in a block: 16 MiB of float32, with a few copies in memory."""

RowLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Log-sum-exp of each row `(n,)`; row `(K,)` and score `(K,)` of the positives -> `(n,)`."""


def symmetric(
    row_loss: RowLoss,
    queries: Tensor,
    videos: Tensor,
    scale: Tensor | float,
    positives: Tensor,
    ignore_pairs: Tensor | None,
    elements: int,
) -> Tensor:
    """Return what `base.symmetric` gives for the whole matrix.

    Arguments as in `PairLoss.from_vectors`.
    """
    blocks = _Blocks(queries, videos, positives, ignore_pairs, elements)
    if not len(queries) or not len(videos):
        return 0.0 * (queries.sum() + videos.sum())
    across, down, own = _LogSums.apply(queries, videos, blocks.number(scale), blocks)
    rows, columns = blocks.rows, blocks.columns
    return (_mean(row_loss, across, rows, own) + _mean(row_loss, down, columns, own)) / 2


class _Blocks:
    """Blocks of rows of the matrix `queries @ videos.T * scale`, and its positives in order of
    rows.
    """

    def __init__(
        self,
        queries: Tensor,
        videos: Tensor,
        positives: Tensor,
        ignore_pairs: Tensor | None,
        elements: int,
    ) -> None:
        if queries.ndim != 2 or videos.ndim != 2 or queries.shape[1] != videos.shape[1]:
            raise ShapeError(
                f"queries {tuple(queries.shape)} and videos {tuple(videos.shape)} must be 2-D, "
                f"of one width"
            )
        count, width = len(queries), len(videos)
        positive = _flat_index(positives, count, width)
        ignore = positive[:0] if ignore_pairs is None else _flat_index(ignore_pairs, count, width)
        positive = positive[~torch.isin(positive, ignore)]
        self.rows, self.columns = positive // max(1, width), positive % max(1, width)
        self._ignore = ignore // max(1, width), ignore % max(1, width)
        self._like = torch.empty((), dtype=queries.dtype, device=queries.device)
        step = max(1, elements // max(1, width))
        self.ranges = [(i, min(i + step, count)) for i in range(0, count, step)] if width else []

    def number(self, value: Tensor | float) -> Tensor:
        """Return `value` as a tensor of the type of the computation."""
        return torch.as_tensor(
            value, dtype=at_least_float32(self._like).dtype, device=self._like.device
        )

    def scores(
        self, queries: Tensor, videos: Tensor, factor: Tensor, first: int, last: int
    ) -> Tensor:
        """Return the scores `(last - first, V)` of a block.

        Those of ignored pairs are the lowest finite ones.

        These add 0 to any sum and have gradient 0; -inf would give NaN where a whole row or column
        is ignored.
        """
        scores = at_least_float32(queries) @ at_least_float32(videos).T * factor
        ignore = _within(*self._ignore, first, last)
        if not len(ignore[0]):
            return scores
        return scores.index_put(ignore, scores.new_tensor(torch.finfo(scores.dtype).min / 4))


class _LogSums(torch.autograd.Function):
    """Log-sum-exp of each row and each column, and the scores of the positives."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, videos: Tensor, factor: Tensor, blocks: _Blocks
    ) -> tuple[Tensor, Tensor, Tensor]:
        across, own = [], []
        down = factor.new_full((len(videos),), -torch.inf)
        for first, last in blocks.ranges:
            scores = blocks.scores(queries[first:last], videos, factor, first, last)
            across.append(scores.logsumexp(1))
            down = torch.logaddexp(down, scores.logsumexp(0))
            own.append(scores[_within(blocks.rows, blocks.columns, first, last)])
        sums = torch.cat(across), down
        ctx.save_for_backward(queries, videos, factor, *sums)
        ctx.blocks = blocks
        return *sums, torch.cat(own)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_across: Tensor, of_down: Tensor, of_own: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, videos, factor, across, down = ctx.saved_tensors
        blocks = ctx.blocks

        def slope(scores: Tensor, first: int, last: int) -> Tensor:
            gradient = (scores - down).exp_().mul_(of_down)
            gradient += (scores - across[first:last, None]).exp_().mul_(of_across[first:last, None])
            own = of_own[_range(blocks.rows, first, last)]
            return gradient.index_put_(
                _within(blocks.rows, blocks.columns, first, last), own, accumulate=True
            )

        return *_gradients(blocks, queries, videos, factor, slope), None


def _gradients(
    blocks: _Blocks,
    queries: Tensor,
    videos: Tensor,
    factor: Tensor,
    slope: Callable[[Tensor, int, int], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, videos and scale.

    `slope` gives that of a block of scores.
    """
    wide = at_least_float32(videos)
    to_queries, to_videos = torch.empty_like(queries), torch.zeros_like(wide)
    to_factor = torch.zeros_like(factor)
    for first, last in blocks.ranges:
        block = at_least_float32(queries[first:last])
        gradient = slope(blocks.scores(block, videos, factor, first, last), first, last)
        products = gradient @ wide
        to_factor += (products * block).sum()
        to_queries[first:last] = products * factor
        to_videos.addmm_(gradient.T, block)
    if not blocks.ranges:
        to_queries.zero_()
    return to_queries, to_videos.mul_(factor).to(videos.dtype), to_factor


def _flat_index(pairs: Tensor, rows: int, columns: int) -> Tensor:
    """Return the flat indices `row * columns + column` of pairs `(K, 2)`, ascending and distinct.

    Raises:
        ShapeError: the pairs have another shape or type.
        UsageError: a pair is out of range.
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != torch.int64:
        raise ShapeError(
            f"pairs are (K, 2) int64, row and column, not {tuple(pairs.shape)} {pairs.dtype}"
        )
    outside = (pairs < 0) | (pairs >= pairs.new_tensor([rows, columns]))
    if outside.any():
        pair = pairs[outside.any(1)][0].tolist()
        raise UsageError(f"the pair {pair} points outside of {rows} queries and {columns} videos")
    return torch.unique(pairs[:, 0] * columns + pairs[:, 1])


def _range(rows: Tensor, first: int, last: int) -> slice:
    begin, end = torch.searchsorted(rows, rows.new_tensor([first, last])).tolist()
    return slice(begin, end)


def _within(rows: Tensor, columns: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Return the pairs in rows `first` to `last`, rows counted from `first`; `rows` ascends."""
    block = _range(rows, first, last)
    return rows[block] - first, columns[block]


def _mean(row_loss: RowLoss, log_sums: Tensor, index: Tensor, scores: Tensor) -> Tensor:
    rows, position = torch.unique(index, return_inverse=True)
    losses = row_loss(log_sums[rows], position, scores)
    return losses.sum() / max(len(rows), 1)
