"""Segment order: contrastive loss over monotonic alignments of a paragraph's sentences with a
video's segments.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vla.errors import UsageError
from vla.losses.base import (
    Kind,
    at_least_float32,
    check_sets,
    checked_scores,
    cross_entropy,
    mean_over_rows,
    symmetric,
)


class Loss(nn.Module):
    """Symmetric InfoNCE between videos and texts, scored by their monotonic alignments.

    An alignment assigns one segment to every sentence, never before the segment of the previous
    sentence; segments may be skipped and may have several sentences. Its value is the mean
    similarity of the assigned pairs. The score is the soft maximum over all alignments,
    `temperature * log(mean of exp(sentences * value / temperature)) / sentences`: the maximum as
    the temperature goes to 0, and s where all similarities are s, whatever the number of segments
    and sentences. The gradient is that of the whole score. Videos without segments and texts
    without sentences are ignored.

    Memory is a few times `videos * texts * segments * sentences` floats.

    Source: the soft minimum over alignments is that of soft-DTW (Cuturi and Blondel, ICML 2017);
    the admissible steps, and the mean in place of the sum, are ours. Reversed negatives are after
    the shuffled ones of TempCLR (Yang et al., ICLR 2023).

    Args:
        temperature: in units of similarity; the lower, the closer to the best alignment.
        backwards: add the reversed video of every text as a negative, which differs by order alone.
    """

    kind: ClassVar[Kind] = "sets"

    def __init__(self, temperature: float = 0.03, backwards: bool = False) -> None:
        super().__init__()
        if not temperature > 0:
            raise UsageError(f"segment order needs a positive temperature, not {temperature}")
        self.temperature, self.backwards = temperature, backwards

    def forward(
        self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float
    ) -> Tensor:
        """Return a scalar from 0 up.

        Log(videos) where all scores are equal. Arguments as in `SetLoss.forward`.
        """
        check_sets(similarity, segment_mask, sentence_mask)
        real = segment_mask[:, None, :, None] & sentence_mask[None, :, None, :]
        similarity = at_least_float32(similarity).masked_fill(~real, 0.0)
        scores = self._scores(
            similarity, segment_mask[:, None, :], sentence_mask[None, :, :], scale
        )
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        if not self.backwards:
            return symmetric(cross_entropy, scores, own)
        pairs = similarity.diagonal(dim1=0, dim2=1).permute(2, 0, 1).flip(-2)
        reverse = self._scores(pairs, segment_mask.flip(-1), sentence_mask, scale)
        # With one segment or one sentence the reversed video has the same score.
        is_symmetric = (segment_mask.sum(1) < 2) | (sentence_mask.sum(1) < 2)
        candidates = torch.cat(
            [scores.T, reverse.masked_fill(is_symmetric, -torch.inf)[:, None]], 1
        )
        texts = mean_over_rows(
            cross_entropy, *checked_scores(candidates, nn.functional.pad(own, (0, 1)))
        )
        return (mean_over_rows(cross_entropy, *checked_scores(scores, own)) + texts) / 2

    def _scores(
        self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float
    ) -> Tensor:
        """Return scores `(...)` of similarities `(..., N, M)`; -inf where a side is empty.

        Masks broadcast to `(..., N)` and `(..., M)`.
        """
        segments, sentences = segment_mask.sum(-1), sentence_mask.sum(-1)
        sums = log_alignment_sum(similarity / self.temperature, segment_mask, sentence_mask)
        # n segments have C(n + m - 1, m) alignments with m sentences.
        n, m = segments.to(sums.dtype), sentences.to(sums.dtype)
        log_count = torch.lgamma(n + m) - torch.lgamma(m + 1) - torch.lgamma(n.clamp_min(1))
        empty = (segments == 0) | (sentences == 0)
        means = (self.temperature * (sums - log_count) / m.clamp_min(1)).masked_fill(empty, 0.0)
        # Scaled first: the gradient of the scale would be 0 * -inf.
        return (scale * means).masked_fill(empty, -torch.inf)


def log_alignment_sum(energy: Tensor, segment_mask: Tensor, sentence_mask: Tensor) -> Tensor:
    """Return `(...)`, the log-sum-exp over all monotonic alignments of the sum of their energies.

    Args:
        energy: `(..., N, M)`.
        segment_mask: broadcasts to `(..., N)`.
        sentence_mask: broadcasts to `(..., M)`.
    """
    # The lowest numbers that can be added up: with -inf, unreachable cells would have a NaN
    # gradient.
    lowest = torch.finfo(energy.dtype).min / (4 * (energy.shape[-1] + 2))
    energy = energy.masked_fill(~segment_mask.unsqueeze(-1), lowest)
    # Log-sum of the alignments that end at each segment. Before the first sentence all start at the
    # first segment.
    ending = (
        torch.full_like(energy[..., 0], lowest)
        if energy.shape[-1]
        else energy.new_full(energy.shape[:-1], lowest)
    )
    if energy.shape[-2]:
        ending[..., 0] = 0.0
    for j in range(energy.shape[-1]):
        one_more = energy[..., j] + ending.logcumsumexp(-1)
        ending = torch.where(sentence_mask[..., j : j + 1], one_more, ending)
    return ending.logsumexp(-1) if energy.shape[-2] else energy.new_full(energy.shape[:-2], lowest)
