"""What every projector is: a change added to the frozen features, so that no change is exactly the frozen encoder."""

from __future__ import annotations

import torch
from torch import nn

from vla.nn.l2_normalize import l2_normalize
from vla.nn.packing import Packing
from vla.projectors._layers import Whitening


class ResidualProjector(nn.Module):
    """`l2_normalize(start + alpha * change(seen))`, for frames and for texts, where `start` is the normalised feature.

    `seen` is the same feature whitened: what the frozen encoder says faintly (of two captions that differ in one word for a
    direction, say) is as loud as the rest, and can be learned from. In training it is seen through noise, or a few hundred
    videos would be learned by heart.

    Subclasses define `change_frames` and `change_text`, whose last layer starts at zero: the projector is then exactly the
    identity at step 0, and scores are the frozen encoder's. `alpha` in [0, 1] is a dial between frozen and trained; 0 is
    the frozen encoder whatever was trained.

    `centring` in [0, 1] is a dial of its own, 0 at first: so much of what all frames have in common is taken from each, and
    of what all texts have in common from each text, before anything is added. Nothing but means is learned for that.
    """

    alpha: torch.Tensor
    centring: torch.Tensor

    def __init__(self, dim: int, noise: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("alpha", torch.tensor(1.0))
        self.register_buffer("centring", torch.tensor(0.0))
        self.frames_seen, self.texts_seen = Whitening(dim, noise), Whitening(dim, noise)

    def fit(self, frames: torch.Tensor, texts: torch.Tensor) -> None:
        """Learn what is usual from raw features `(N, D)` of frames and texts to be trained on; no more."""
        self.frames_seen.fit(l2_normalize(frames))
        self.texts_seen.fit(l2_normalize(texts))

    def change_frames(self, seen: torch.Tensor, seconds: torch.Tensor, layout: Packing) -> torch.Tensor:
        """`(N, D)` what is added to the frames `seen` `(N, D)`, shown at `seconds` `(N,)`; `layout` says whose each is."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def change_text(self, seen: torch.Tensor) -> torch.Tensor:
        """`(Q, D)` what is added to the texts."""
        raise TypeError(f"{type(self).__name__} does not say how it changes its input")

    def start_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """`(..., D)` unit vectors that changes are added to: raw `frames`, normalised and centred as far as `centring` says."""
        return self._centred(l2_normalize(frames), self.frames_seen)

    def start_text(self, texts: torch.Tensor) -> torch.Tensor:
        """The same of raw `texts`."""
        return self._centred(l2_normalize(texts), self.texts_seen)

    def _centred(self, unit: torch.Tensor, seen: Whitening) -> torch.Tensor:
        return l2_normalize(unit - self.centring * seen.center)

    def project_frames(self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """Unit frames `(B, T, D)`, zero at padding.

        Args:
            frames: `(B, T, D)` raw features.
            mask: `(B, T)` bool, True for real frames.
            seconds: `(B, T)` when each frame is shown.
        """
        layout = Packing(mask)
        return layout.pad(self.project_rows(layout.unpad(frames), layout.unpad(seconds), layout))

    def project_rows(self, frames: torch.Tensor, seconds: torch.Tensor, layout: Packing) -> torch.Tensor:
        """Unit frames `(N, D)` of raw `frames` `(N, D)`, shown at `seconds` `(N,)`: those of `layout`, one after the other."""
        unit = l2_normalize(frames)
        start = self._centred(unit, self.frames_seen)
        return l2_normalize(start + self.alpha * self.change_frames(self.frames_seen(unit), seconds, layout))

    def project_text(self, texts: torch.Tensor) -> torch.Tensor:
        """Unit texts of the shape of `texts` `(..., D)` raw features; zero vectors stay zero."""
        real = (texts.abs().sum(-1, keepdim=True) > 0).to(texts.dtype)
        unit = l2_normalize(texts)
        change = self.change_text(self.texts_seen(unit))
        return l2_normalize(self._centred(unit, self.texts_seen) + self.alpha * change) * real
