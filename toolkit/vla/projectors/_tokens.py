"""What a text's tokens say beyond its one vector: which of them to look at, and how each compares with frames."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from vla.projectors._layers import Bottleneck, Dropout, Whitening, zero_linear


class TokenReader(nn.Module):
    """Attention of a text to its tokens, and a small network on each token; both start as zero.

    Args:
        dim: width of the features.
        width: hidden units.
        dropout: of the hidden units.
        noise: standard deviation of what is added to the whitened tokens in training.
    """

    def __init__(self, dim: int, width: int, dropout: float, noise: float) -> None:
        super().__init__()
        self.seen = Whitening(dim, noise)
        self.ask = nn.Linear(dim, width)
        # No bias: that of a key moves all tokens alike, and a softmax does not notice.
        self.key_value = nn.Linear(dim, 2 * width, bias=False)
        self.dropout = Dropout(dropout)
        self.leave = zero_linear(width, dim)
        self.each = Bottleneck(dim, width, dropout)

    def change_text(self, text: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(M, D)` what is added to texts; 0 where no token is real.

        Args:
            text: `(M, D)` whitened.
            tokens: `(N, D)` unit vectors, the real ones alone: one long text costs all others no padding.
            mask: `(M, L)` bool, which places of each text they stand at.
        """
        key, value = self.key_value(self.seen(tokens)).chunk(2, -1)
        value = value.to(torch.promote_types(value.dtype, torch.float32))
        count = mask.sum(1)
        asked = self.ask(text).repeat_interleave(count, 0)
        logits = (key * asked).sum(-1).to(value.dtype) / math.sqrt(key.shape[-1])
        # The lowest finite number rather than -inf: of a text without tokens the softmax would be NaN.
        each = logits.new_full(mask.shape, torch.finfo(logits.dtype).min).masked_scatter(mask, logits)
        shares = each.softmax(-1)[mask]
        index = torch.arange(len(tokens), device=tokens.device)
        told = functional.embedding_bag(index, value, count.cumsum(0) - count, mode="sum", per_sample_weights=shares)
        change: torch.Tensor = self.leave(self.dropout(functional.gelu(told.to(key.dtype))))
        return change * mask.any(1, keepdim=True)

    def change_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(..., L, D)` what is added to unit tokens, each by itself."""
        change: torch.Tensor = self.each(self.seen(tokens))
        return change
