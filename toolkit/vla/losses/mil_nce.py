"""MIL-NCE: of all candidates, find any of the ones that may belong to you."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vla.losses import _vectors
from vla.losses._vectors import ELEMENTS
from vla.losses.base import Kind, both_ways


class Loss(nn.Module):
    """Symmetric multiple-instance NCE: the positives together must outweigh the rest; a single good one is enough.

    For every row and every column with positives, `-log(sum over positives of exp / sum over all of exp)`; then the
    mean of the two directions. A positive weight counts as a positive, whatever its size.

    Source: Miech et al., "End-to-End Learning of Visual Representations from Uncurated Instructional Videos", 2020.
    """

    kind: ClassVar[Kind] = "pairs"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """A scalar from 0 up; 0 where everything is positive. Arguments as `PairLoss`."""
        return both_ways(_any_positive, scores, positives)

    def of_vectors(
        self,
        queries: Tensor,
        videos: Tensor,
        scale: Tensor | float,
        positives: Tensor,
        left_out: Tensor | None = None,
        *,
        elements: int = ELEMENTS,
    ) -> Tensor:
        """The same scalar and gradient from vectors, in little memory. Arguments as `PairLoss.of_vectors`."""
        return _vectors.both_ways(_best_positives, queries, videos, scale, positives, left_out, elements)


def _any_positive(scores: Tensor, weights: Tensor) -> Tensor:
    return scores.logsumexp(dim=1) - scores.masked_fill(weights == 0, -torch.inf).logsumexp(dim=1)


def _best_positives(everything: Tensor, place: Tensor, scores: Tensor) -> Tensor:
    top = scores.new_full(everything.shape, -torch.inf).scatter_reduce(0, place, scores.detach(), "amax")
    total = scores.new_zeros(everything.shape).index_add(0, place, (scores - top[place]).exp())
    return everything - (top + total.log())
