"""Sigmoid loss: a binary classification of every pair (SigLIP)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.losses._vectors import ELEMENTS, blockwise_sum
from vla.losses.base import Kind, checked_scores


class Loss(nn.Module):
    """Sum of `-log sigmoid(score)` of positives and `-log sigmoid(-score)` of negatives, per row.

    Scores include scale and bias. A weight above 0 counts as a positive, whatever its size. Since a
    row has many more negatives than positives, the bias should start near SigLIP's -10.

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, equation 1.
    """

    kind: ClassVar[Kind] = "pairs"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """Return a scalar from 0 up.

        Columns * log 2 where all scores are 0. Arguments as in `PairLoss.forward`.
        """
        scores, weights = checked_scores(scores, positives)
        candidates = scores != -torch.inf
        # Filled before the logarithm: its gradient at -inf, times 0, would be NaN.
        finite = scores.masked_fill(~candidates, 0.0)
        terms = -F.logsigmoid(torch.where(weights > 0, finite, -finite))
        return (terms * candidates).sum() / max(len(scores), 1)

    def from_vectors(
        self,
        queries: Tensor,
        videos: Tensor,
        scale: Tensor | float,
        positives: Tensor,
        ignore_pairs: Tensor | None = None,
        *,
        elements: int = ELEMENTS,
        bias: Tensor | float = 0.0,
    ) -> Tensor:
        """Return the same scalar, computed blockwise.

        Arguments as in `PairLoss.from_vectors`; `bias` is added to every score.
        """
        total = blockwise_sum(
            _pair_losses, queries, videos, scale, bias, positives, ignore_pairs, elements
        )
        return total / max(len(queries), 1)


def _pair_losses(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    sign = torch.ones_like(scores).index_put((rows, columns), scores.new_tensor(-1.0))
    return -F.logsigmoid(-sign * scores).sum()
