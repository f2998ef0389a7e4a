"""InfoNCE: of all candidates, find the ones that belong to you."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

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
