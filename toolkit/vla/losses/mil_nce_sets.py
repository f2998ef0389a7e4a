"""MIL-NCE over sets: find a text's video, any good pair of a segment and a sentence being enough."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vla.losses.base import Kind, both_ways, check_sets, cross_entropy, widened


class Loss(nn.Module):
    """Symmetric multiple-instance NCE: all pairs of a video's segments and its text's sentences are its positives.

    For every video `-log(sum over its own pairs of exp / sum over all pairs that it is part of)`, the same for every text,
    and the mean of the two directions. Nothing is aligned: the baseline of the losses that align. Videos without segments
    and texts without sentences are left out.

    Source: Miech et al., "End-to-End Learning of Visual Representations from Uncurated Instructional Videos", 2020, with all
    pairs of a video as its bag.
    """

    kind: ClassVar[Kind] = "sets"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float) -> Tensor:
        """A scalar from 0 up; log(videos) where all pairs are alike and all sets equally large. Arguments as `SetLoss`."""
        check_sets(similarity, segment_mask, sentence_mask)
        real = (segment_mask[:, None, :, None] & sentence_mask[None, :, None, :]).flatten(2)
        lowest = torch.finfo(widened(similarity).dtype).min
        scores = scale * widened(similarity).flatten(2).masked_fill(~real, 0.0)
        # The lowest finite number, then -inf: a sum over nothing but -inf has a NaN gradient.
        together = scores.masked_fill(~real, lowest).logsumexp(-1).masked_fill(~real.any(-1), -torch.inf)
        return both_ways(cross_entropy, together, torch.eye(len(scores), dtype=torch.bool, device=scores.device))
