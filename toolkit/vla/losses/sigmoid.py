"""Sigmoid loss: does this one belong to that one, asked of every pair by itself."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.losses._vectors import ELEMENTS, summed
from vla.losses.base import Kind, checked


class Loss(nn.Module):
    """SigLIP's pairwise loss: `-log sigmoid(+score)` of positives, `-log sigmoid(-score)` of the rest, summed, per row.

    The scores hold scale and bias. A positive weight counts as a positive, whatever its size. Since a row has many more
    negatives than positives, the bias should start near SigLIP's -10.

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, equation 1.
    """

    kind: ClassVar[Kind] = "pairs"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """A scalar from 0 up; columns * log 2 where all scores are 0. Arguments as `PairLoss`."""
        scores, weights = checked(scores, positives)
        candidates = scores != -torch.inf
        # Filled before the logarithm: its gradient at -inf, times 0, would be NaN.
        finite = scores.masked_fill(~candidates, 0.0)
        terms = -F.logsigmoid(torch.where(weights > 0, finite, -finite))
        return (terms * candidates).sum() / max(len(scores), 1)

    def of_vectors(
        self,
        queries: Tensor,
        videos: Tensor,
        scale: Tensor | float,
        positives: Tensor,
        left_out: Tensor | None = None,
        *,
        elements: int = ELEMENTS,
        bias: Tensor | float = 0.0,
    ) -> Tensor:
        """The same scalar and gradient from vectors, in little memory. Arguments as `PairLoss.of_vectors`; `bias` is added
        to every score.
        """
        total = summed(_belong, queries, videos, scale, bias, positives, left_out, elements)
        return total / max(len(queries), 1)


def _belong(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    sign = torch.ones_like(scores).index_put((rows, columns), scores.new_tensor(-1.0))
    return -F.logsigmoid(-sign * scores).sum()
