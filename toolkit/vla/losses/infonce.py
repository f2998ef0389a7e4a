"""InfoNCE: of all candidates, find the ones that belong to you."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from vla.losses import _vectors
from vla.losses._vectors import ELEMENTS
from vla.losses.base import Kind, both_ways, cross_entropy


class Loss(nn.Module):
    """Symmetric InfoNCE that allows several positives: a video with twenty captions has twenty.

    Cross-entropy of every row's softmax against its positives made to sum to 1, the same for every column, and the
    mean of the two directions. Rows and columns without positives are still candidates of the others.

    Source: CLIP (Radford et al. 2021); several positives as soft targets, DRL (Wang et al. 2022).
    """

    kind: ClassVar[Kind] = "pairs"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        """A scalar from 0 up; log(rows) where one positive each hides among equal scores. Arguments as `PairLoss`."""
        return both_ways(cross_entropy, scores, positives)

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
        return _vectors.both_ways(_mean_positive, queries, videos, scale, positives, left_out, elements)


def _mean_positive(everything: Tensor, place: Tensor, scores: Tensor) -> Tensor:
    total = scores.new_zeros(everything.shape).index_add(0, place, scores)
    return everything - total / place.bincount(minlength=len(everything)).clamp_min(1)
