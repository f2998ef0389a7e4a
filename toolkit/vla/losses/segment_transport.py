"""Segment transport: contrastive loss over soft alignments of a paragraph's sentences with a
video's segments.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vla.errors import UsageError
from vla.losses._transport import log_plan
from vla.losses.base import Kind, at_least_float32, check_sets, cross_entropy, symmetric


class Loss(nn.Module):
    """Symmetric InfoNCE between videos and texts, scored by the similarity of their aligned pairs.

    The score of video v and text t is `sum(plan * similarity) / sum(plan)` with the plan of
    `soft_alignment`. The plan is a constant to the gradient. The similarity of the dustbin is a
    quantile over the batch of every sentence's similarity to the best segment of its own video.
    Videos without segments and texts without sentences are ignored.

    Memory is a few times `videos * texts * segments * sentences` floats.

    Source: the video-paragraph loss of Norton (Lin et al., ICLR 2024), without its word-level
    similarity. Norton takes the quantile over clips and the captions at their time; here times are
    unknown, hence the best segment.

    Args:
        temperature: weight of the plan's entropy.
        quantile: in [0, 1], about the share of sentences that their video does not show.
        iterations: Sinkhorn steps.
    """

    kind: ClassVar[Kind] = "sets"

    # Norton's 0.1 is for similarities stretched to [0, 1]; cosines between CLIP towers span about
    # 0.3.
    def __init__(
        self, temperature: float = 0.03, quantile: float = 0.3, iterations: int = 50
    ) -> None:
        super().__init__()
        if not temperature > 0 or not 0 <= quantile <= 1 or iterations < 1:
            raise UsageError(
                f"segment transport needs temperature > 0, quantile in [0, 1] and iterations >= 1, "
                f"not {temperature}, {quantile} and {iterations}"
            )
        self.temperature, self.quantile, self.iterations = temperature, quantile, iterations

    def forward(
        self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float
    ) -> Tensor:
        """Return a scalar from 0 up.

        Log(videos) where all scores are equal. Arguments as in `SetLoss.forward`.
        """
        check_sets(similarity, segment_mask, sentence_mask)
        real = segment_mask[:, None, :, None] & sentence_mask[None, :, None, :]
        similarity = at_least_float32(similarity).masked_fill(~real, 0.0)
        shares = self._shares(similarity.detach(), segment_mask, sentence_mask, real)
        scores = scale * (shares * similarity).sum(dim=(-2, -1))
        scores = scores.masked_fill(~real.flatten(2).any(dim=-1), -torch.inf)
        return symmetric(
            cross_entropy, scores, torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        )

    @torch.no_grad()
    def _shares(
        self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, real: Tensor
    ) -> Tensor:
        """Return `(V, T, N, M)`, the plan of every pair normalized to sum 1.

        All 0 where a side is empty.
        """
        plan = log_plan(
            similarity,
            segment_mask[:, None, :],
            sentence_mask[None, :, :],
            temperature=self.temperature,
            dustbin=self._dustbin(similarity, real),
            iterations=self.iterations,
        )[..., :-1, :-1]
        # Softmax of the logarithm rather than a quotient: the plan of a pair without matches
        # underflows.
        return plan.flatten(2).softmax(dim=-1).view_as(plan).masked_fill(~real, 0.0)

    def _dustbin(self, similarity: Tensor, real: Tensor) -> Tensor:
        own = similarity.masked_fill(~real, -torch.inf).diagonal(dim1=0, dim2=1)
        best = own.amax(dim=0)
        best = best[best > -torch.inf]
        return best.quantile(self.quantile) if len(best) else similarity.new_zeros(())
