"""Which part of its video does a text tell of, by its curve of cosines alone?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vla.batch import Aligned, AlignmentBatch
from vla.corpus import Corpus
from vla.errors import UsageError
from vla.heads import base
from vla.heads._frames import apart, curves, edges, of_real_frames, to_frames
from vla.heads.base import LocalizationBatch, LocalizedMoments
from vla.spans import nms

_TOGETHER = 32768
_STARTS = 128
"""So many of the likeliest starts are tried with every end: all starts would be the square of a video's frames."""
_CONSIDERED = 1000
_LISTED = 50
_SLACK = 1e-3
"""Seconds: in a batch times are float32."""


@dataclass(frozen=True)
class Located:
    """What was found for N queries in videos of up to T frames.

    Attributes:
        starts: `(N, T + 1)` log-probability that the moment starts where frame `t` does.
        ends: `(N, T + 1)` likewise, that it ends there; place `T` is the end of the video.
        seconds: `(N, T + 1)` when these places are.
        saliency: `(N, T)` how well each frame shows the query; of no meaning at padding.
    """

    starts: torch.Tensor
    ends: torch.Tensor
    seconds: torch.Tensor
    saliency: torch.Tensor


class Head(base.Head):
    """Start and end as two distributions over time, each a convolution of the curve of cosines; a moment is their product.

    Untrained, the convolutions are edge detectors: a moment starts where the curve rises, and ends where it falls. A few
    dozen parameters, and no word about what is seen but its cosine: light, and hard to overfit. Source: ConvSE of XML (Lei
    et al., TVR, ECCV 2020), with places between frames instead of clips, and several widths.

    Args:
        dim: width of the aligned vectors.
        sizes: frames that the convolutions see, each even.
        shortest: seconds of a moment; planned, as the longest is, from those that are trained on.
        longest: seconds; None for any.
        overlap: of two moments that share more than this IoU the better one is listed.
    """

    asks = "moments"

    def __init__(
        self, dim: int = 0, sizes: Sequence[int] = (4, 8, 16), shortest: float = 0.0, longest: float | None = None,
        overlap: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shortest, self.longest, self.overlap = shortest, longest, overlap
        self.filters = nn.ParameterList(_edges(size) / len(sizes) for size in sizes)

    @classmethod
    def planned(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """Moments as long as those of `corpus`."""
        lengths = [float(end - start) for query in corpus.queries for start, end in query.spans]
        limits = {"shortest": min(lengths), "longest": max(lengths)} if lengths else {}
        return limits | dict(options)

    def localize(self, batch: LocalizationBatch) -> list[LocalizedMoments]:
        """Of those that overlap, the best; the whole video where none is long enough. Saliency is the curve itself."""
        located = self.located(batch)
        parts = (part.cpu().double().numpy() for part in (located.starts, located.ends, located.seconds))
        moments = [self._listed(*row) for row in zip(*parts, strict=True)]
        saliency = of_real_frames(located.saliency, batch)
        return [LocalizedMoments(*row) for row in zip(moments, saliency, strict=True)]

    def located(self, batch: LocalizationBatch) -> Located:
        """Where the moment of every text may start and end."""
        videos = batch.video_of_text[batch.rows]
        there = functional.pad(batch.frame_mask[videos], (1, 0), value=True)
        parts = [curves(batch, some) for some in apart(batch, _TOGETHER)]
        curve = batch.scale * torch.cat([batch.frames.new_zeros(0, batch.frames.shape[1]), *parts])
        scores = self._scores(curve, batch.frame_mask[videos]).masked_fill(~there[:, None], -torch.inf)
        starts, ends = scores.log_softmax(-1).unbind(1)
        return Located(starts, ends, edges(batch)[videos], curve)

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """Cross-entropy of the starts and the ends; the nearest of several moments counts as much as any other."""
        rows = batch.is_timed.nonzero()[:, 0]
        if not len(rows):
            return None
        found = self.located(LocalizationBatch.from_batch(aligned, batch))
        wanted = to_frames(batch.spans[rows].flatten(1), found.seconds).unflatten(1, (-1, 2)).round().long()
        real = batch.span_mask[rows].to(found.starts.dtype)
        near = found.starts.gather(1, wanted[..., 0]) + found.ends.gather(1, wanted[..., 1])
        return -((near * real).sum(1) / real.sum(1)).mean()

    def _listed(self, starts: np.ndarray, ends: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """`(N, 3)`. Of one query `(T + 1,)` log-probabilities and seconds."""
        first = np.argsort(-starts, kind="stable")[:_STARTS]
        length = seconds[None] - seconds[first][:, None]
        longest = np.inf if self.longest is None else self.longest
        chance = starts[first][:, None] + ends[None]
        fits = (length > 0) & (length >= self.shortest - _SLACK) & (length <= longest + _SLACK) & np.isfinite(chance)
        start, end = np.nonzero(fits)
        if not len(start):
            return np.array([[seconds[0], seconds[-1], 0.0]])
        best = np.argsort(-chance[start, end], kind="stable")[:_CONSIDERED]
        start, end = start[best], end[best]
        spans, chances = np.column_stack([seconds[first][start], seconds[end]]), np.exp(chance[start, end])
        kept = nms(spans, chances, self.overlap, most=_LISTED)
        return np.column_stack([spans[kept], chances[kept]])

    def _scores(self, curve: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(N, 2, T + 1)` of start and end. Beyond the video the curve goes on as it ends: that is no edge."""
        last = mask.sum(1, keepdim=True).sub(1).clamp_min(0)
        total = curve.new_zeros(len(curve), 2, curve.shape[1] + 1)
        for weights in self.filters:
            half = weights.shape[-1] // 2
            places = torch.arange(-half, curve.shape[1] + half, device=curve.device)[None].clamp_min(0)
            total = total + functional.conv1d(curve.gather(1, torch.minimum(places, last))[:, None], weights)
        return total


def _edges(size: int) -> torch.Tensor:
    """`(2, 1, size)`: the mean of a curve after a place less that before it, and the same turned around."""
    if size < 2 or size % 2:
        raise UsageError(
            f"the convolutions see an even number of frames, half before a place and half after, not {size}"
        )
    rise = torch.cat([-torch.ones(size // 2), torch.ones(size // 2)]) / (size // 2)
    return torch.stack([rise, -rise])[:, None]
