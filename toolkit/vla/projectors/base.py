"""What every projector is: a change added to the frozen features, so that no change is exactly the frozen encoder."""

from __future__ import annotations

import torch
from torch import nn

from vla.batch import normalized
from vla.layout import Layout
from vla.projectors._layers import Whitening
from vla.projectors._tokens import TokenReader


class ResidualProjector(nn.Module):
    """`normalized(start + alpha * change(seen))`, for frames and for texts, where `start` is the normalised feature.

    `seen` is the same feature whitened: what the frozen encoder says faintly (of two captions that differ in one word for a
    direction, say) is as loud as the rest, and can be learned from. In training it is seen through noise, or a few hundred
    videos would be learned by heart.

    Subclasses define `change_frames` and `change_text`, whose last layer starts at zero: the projector is then exactly the
    identity at step 0, and scores are the frozen encoder's. `alpha` in [0, 1] is a dial between frozen and trained; 0 is
    the frozen encoder whatever was trained.

    Where a subclass sets `reader`, texts are also changed by what their tokens say, and tokens have a change of their own;
    elsewhere tokens are only normalised. The same holds for them: no change at step 0, none at alpha 0.

    `centring` in [0, 1] is a dial of its own, 0 at first: so much of what all frames have in common is taken from each, and
    of what all texts have in common from each text, before anything is added. Nothing but means is learned for that.
    """

    alpha: torch.Tensor
    centring: torch.Tensor
    reader: TokenReader | None

    def __init__(self, dim: int, noise: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.reader = None
        self.register_buffer("alpha", torch.tensor(1.0))
        self.register_buffer("centring", torch.tensor(0.0))
        self.frames_seen, self.texts_seen = Whitening(dim, noise), Whitening(dim, noise)

    def fit(self, frames: torch.Tensor, texts: torch.Tensor, tokens: torch.Tensor | None = None) -> None:
        """Learn what is usual from raw features `(N, D)` of frames, texts and real tokens to be trained on; no more."""
        self.frames_seen.fit(normalized(frames))
        self.texts_seen.fit(normalized(texts))
        if self.reader is not None and tokens is not None:
            self.reader.seen.fit(normalized(tokens))

    def change_frames(self, seen: torch.Tensor, seconds: torch.Tensor, layout: Layout) -> torch.Tensor:
        """`(N, D)` what is added to the frames `seen` `(N, D)`, shown at `seconds` `(N,)`; `layout` says whose each is."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def change_text(self, seen: torch.Tensor) -> torch.Tensor:
        """`(Q, D)` what is added to the texts."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def start_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """`(..., D)` unit vectors that changes are added to: raw `frames`, normalised and centred as far as `centring` says."""
        return self._centred(normalized(frames), self.frames_seen)

    def start_text(self, texts: torch.Tensor) -> torch.Tensor:
        """The same of raw `texts`."""
        return self._centred(normalized(texts), self.texts_seen)

    def _centred(self, unit: torch.Tensor, seen: Whitening) -> torch.Tensor:
        return normalized(unit - self.centring * seen.center)

    def project_frames(self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """Unit frames `(B, T, D)`, zero at padding.

        Args:
            frames: `(B, T, D)` raw features.
            mask: `(B, T)` bool, True for real frames.
            seconds: `(B, T)` when each frame is shown.
        """
        layout = Layout(mask)
        return layout.padded(self.project_rows(layout.rows(frames), layout.rows(seconds), layout))

    def project_rows(self, frames: torch.Tensor, seconds: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Unit frames `(N, D)` of raw `frames` `(N, D)`, shown at `seconds` `(N,)`: those of `layout`, one after the other."""
        unit = normalized(frames)
        start = self._centred(unit, self.frames_seen)
        return normalized(start + self.alpha * self.change_frames(self.frames_seen(unit), seconds, layout))

    def project_text(
        self, texts: torch.Tensor, tokens: torch.Tensor | None = None, token_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Unit texts of the shape of `texts` `(..., D)` raw features; zero vectors stay zero.

        Args:
            texts: pooled features.
            tokens: `(..., L, D)` raw features of their tokens; not read without a `reader`. A text without any is changed
                as if none were given.
            token_mask: `(..., L)` bool, True for real tokens.
        """
        if self.reader is None or tokens is None or token_mask is None:
            return self.project_text_rows(texts)
        found = self.project_text_rows(texts.flatten(0, -2), tokens[token_mask], token_mask.flatten(0, -2))
        return found.view(texts.shape)

    def project_text_rows(
        self, texts: torch.Tensor, tokens: torch.Tensor | None = None, token_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The same of texts `(M, D)`, of whose tokens only the real ones `(N, D)` are given, one text after the other."""
        real = (texts.abs().sum(-1, keepdim=True) > 0).to(texts.dtype)
        unit = normalized(texts)
        seen = self.texts_seen(unit)
        change = self.change_text(seen)
        if self.reader is not None and tokens is not None and token_mask is not None:
            change = change + self.reader.change_text(seen, normalized(tokens), token_mask)
        return normalized(self._centred(unit, self.texts_seen) + self.alpha * change) * real

    def project_tokens(self, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """Unit tokens `(..., L, D)` from raw ones, zero where `token_mask` `(..., L)` says padding; to compare with frames."""
        unit = _unit(tokens, token_mask)
        if self.reader is None:
            return unit
        moved = normalized(unit + self.alpha * self.reader.change_tokens(unit))
        return moved * token_mask.unsqueeze(-1)


def _unit(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # Replaced, not multiplied by 0: padding may hold anything.
    return normalized(tokens.masked_fill(~mask.unsqueeze(-1), 0.0))
