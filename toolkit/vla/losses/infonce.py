"""InfoNCE with several positives."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from vla.losses import _vectors
from vla.losses._vectors import ELEMENTS
from vla.losses.base import Kind, cross_entropy, symmetric


class Loss(nn.Module):
    """Symmetric InfoNCE that allows several positives: a video with twenty captions has twenty.

    The loss is the cross-entropy of every row's softmax with its positives, normalized to sum 1,
    the same for every column, and the mean of the two directions. Rows and columns without
    positives remain candidates of the others.

    Source: CLIP (Radford et al. 2021); several positives as soft targets, DRL (Wang et al. 2022).
    """

    kind: ClassVar[Kind] = "pairs"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """Return a scalar from 0 up; log(rows) for one positive each among equal scores.

        Arguments as in `PairLoss.forward`.
        """
        return symmetric(cross_entropy, scores, positives)

    def from_vectors(
        self,
        queries: Tensor,
        videos: Tensor,
        scale: Tensor | float,
        positives: Tensor,
        ignore_pairs: Tensor | None = None,
        *,
        elements: int = ELEMENTS,
    ) -> Tensor:
        """Return the same scalar, computed blockwise. Arguments as in `PairLoss.from_vectors`."""
        return _vectors.symmetric(
            _mean_positive, queries, videos, scale, positives, ignore_pairs, elements
        )


def _mean_positive(log_sums: Tensor, row: Tensor, scores: Tensor) -> Tensor:
    total = scores.new_zeros(log_sums.shape).index_add(0, row, scores)
    return log_sums - total / row.bincount(minlength=len(log_sums)).clamp_min(1)
