"""Segment order: find a paragraph's video, its sentences being told in the order in which the video shows them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vla.errors import UsageError
from vla.losses.base import Kind, both_ways, check_sets, checked, cross_entropy, over_rows, widened


class Loss(nn.Module):
    """Symmetric InfoNCE between videos and texts, a pair's score being that of its alignments in order.

    An alignment gives every sentence one segment, none before that of the sentence before; segments may be passed over and
    may be told of by several sentences. Its value is the mean similarity of what it joins. The score is the soft maximum
    over all alignments, `temperature * log(mean of exp(sentences * value / temperature)) / sentences`: the maximum as the
    temperature goes to 0, and s where all similarities are s, whatever the number of segments and sentences. The gradient
    is that of the whole score. Videos without segments and texts without sentences are left out.

    Memory is about `videos * texts * segments * sentences` floats, a few times.

    Source: the soft minimum over alignments is that of soft-DTW (Cuturi and Blondel, ICML 2017); the steps allowed, and the
    mean in place of the sum, are ours. Backwards negatives are after the shuffled ones of TempCLR (Yang et al., ICLR 2023).

    Args:
        temperature: in units of similarity; the lower, the closer to the one best alignment.
        backwards: also tell every text's video from the same video played backwards, which only order can tell.
    """

    kind: ClassVar[Kind] = "sets"

    def __init__(self, temperature: float = 0.03, backwards: bool = False) -> None:
        super().__init__()
        if not temperature > 0:
            raise UsageError(f"segment order needs a positive temperature, not {temperature}")
        self.temperature, self.backwards = temperature, backwards

    def forward(self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float) -> Tensor:
        """A scalar from 0 up; log(videos) where all pairs score alike. Arguments as `SetLoss`."""
        check_sets(similarity, segment_mask, sentence_mask)
        real = segment_mask[:, None, :, None] & sentence_mask[None, :, None, :]
        similarity = widened(similarity).masked_fill(~real, 0.0)
        scores = self._scores(similarity, segment_mask[:, None, :], sentence_mask[None, :, :], scale)
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        if not self.backwards:
            return both_ways(cross_entropy, scores, own)
        pairs = similarity.diagonal(dim1=0, dim2=1).permute(2, 0, 1).flip(-2)
        mirrored = self._scores(pairs, segment_mask.flip(-1), sentence_mask, scale)
        # Of one segment, or told in one sentence, backwards is the same.
        plain = (segment_mask.sum(1) < 2) | (sentence_mask.sum(1) < 2)
        candidates = torch.cat([scores.T, mirrored.masked_fill(plain, -torch.inf)[:, None]], 1)
        texts = over_rows(cross_entropy, *checked(candidates, nn.functional.pad(own, (0, 1))))
        return (over_rows(cross_entropy, *checked(scores, own)) + texts) / 2

    def _scores(self, similarity: Tensor, segment_mask: Tensor, sentence_mask: Tensor, scale: Tensor | float) -> Tensor:
        """`(...)` from `(..., N, M)` and masks that broadcast to `(..., N)` and `(..., M)`; -inf where a side is empty."""
        segments, sentences = segment_mask.sum(-1), sentence_mask.sum(-1)
        sums = log_alignment_sum(similarity / self.temperature, segment_mask, sentence_mask)
        # n segments have C(n + m - 1, m) alignments with m sentences.
        n, m = segments.to(sums.dtype), sentences.to(sums.dtype)
        ways = torch.lgamma(n + m) - torch.lgamma(m + 1) - torch.lgamma(n.clamp_min(1))
        empty = (segments == 0) | (sentences == 0)
        means = (self.temperature * (sums - ways) / m.clamp_min(1)).masked_fill(empty, 0.0)
        # Scaled first: the gradient of the scale would be 0 * -inf.
        return (scale * means).masked_fill(empty, -torch.inf)


def log_alignment_sum(energy: Tensor, segment_mask: Tensor, sentence_mask: Tensor) -> Tensor:
    """`(...)` logarithm of the sum, over all alignments in order, of exp of the energy `(..., N, M)` that each collects."""
    # The lowest numbers that can be added up: with -inf, what cannot be reached would have a NaN gradient.
    lowest = torch.finfo(energy.dtype).min / (4 * (energy.shape[-1] + 2))
    energy = energy.masked_fill(~segment_mask.unsqueeze(-1), lowest)
    # Logarithm of what ends at each segment. Before the first sentence: at the first, from where all are ahead.
    ending = torch.full_like(energy[..., 0], lowest) if energy.shape[-1] else energy.new_full(energy.shape[:-1], lowest)
    if energy.shape[-2]:
        ending[..., 0] = 0.0
    for j in range(energy.shape[-1]):
        reached = energy[..., j] + ending.logcumsumexp(-1)
        ending = torch.where(sentence_mask[..., j : j + 1], reached, ending)
    return ending.logsumexp(-1) if energy.shape[-2] else energy.new_full(energy.shape[:-2], lowest)
