"""Which parts of its video does a text tell of?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vla.batch import Aligned, AlignmentBatch
from vla.corpus import Corpus
from vla.heads import base
from vla.heads._frames import apart, curves, edges, of_real_frames, rated, to_frames, to_seconds
from vla.heads._pyramid import Block, Pyramid
from vla.spans import frames_in, nms

_HALF = 2.0
"""Strides from a point to either end of the window that it begins with."""
_CONSIDERED = 1000
_LISTED = 50


@dataclass(frozen=True)
class Located:
    """What was found for N queries.

    Attributes:
        spans: `(N, K, 2)` seconds, best first, within the video.
        scores: `(N, K)` logits; -inf where there are fewer.
        saliency: `(N, T)` how well each frame shows the query; of no meaning at padding.
    """

    spans: torch.Tensor
    scores: torch.Tensor
    saliency: torch.Tensor


@dataclass(frozen=True)
class _Points:
    """Where a moment may be: `(N, K)` of all levels. `bounds` `(N, K, 2)` are counted in frames."""

    centers: torch.Tensor
    strides: torch.Tensor
    there: torch.Tensor
    scores: torch.Tensor
    bounds: torch.Tensor
    saliency: torch.Tensor


class Head(base.Head):
    """Points at strides 1, 2, 4, ... frames, each with a score and the distances to the start and end of its moment.

    Untrained, a point stands for the window of four strides around it, and its score is how much better the cosines
    inside are than the video's mean, times the root of its length: what tells a raised stretch of a noisy curve best.
    Training adds to the score and moves the ends. The form is that of R2-Tuning (Liu et al., ECCV 2024) and ActionFormer
    (Zhang et al., ECCV 2022); scores learn the IoU that is reached (quality focal loss, Li et al., NeurIPS 2020).

    Args:
        dim: width of the aligned vectors.
        width: of the network; planned as the least of `dim` and 256.
        depth: convolutions over the frames before a query is known; one more comes after.
        levels: strides are at most `2 ** (levels - 1)` frames; planned from the longest moment that is trained on.
        dropout: of hidden units.
        radius: points at most so many strides from a moment's middle learn to find it.
        overlap: of two moments that share more than this IoU the better one is listed.
        together: frames, over all queries, that are looked at in one piece: memory grows with it.
    """

    asks = "moments"

    def __init__(
        self, dim: int, width: int = 256, depth: int = 3, levels: int = 16, dropout: float = 0.2,
        radius: float = 1.0, overlap: float = 0.5, together: int = 32768,
    ) -> None:  # fmt: skip
        super().__init__()
        self.levels, self.radius, self.overlap, self.together = levels, radius, overlap, together
        self.spread = math.sqrt(dim)
        self.frames, self.queries = nn.Linear(dim, width), nn.Linear(dim, 2 * width)
        self.near = nn.ModuleList(Block(width, dropout) for _ in range(depth))
        self.seen = nn.Linear(width, 2 * width)
        self.curve = nn.Linear(2, width)
        self.dropout = nn.Dropout(dropout)
        self.pyramid = Pyramid(width, dropout)
        self.norm = nn.LayerNorm(width)
        self.tower = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.says, self.shows = nn.Linear(width, 3), nn.Linear(width, 1)
        for last in (self.says, self.shows):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.slope, self.offset = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-3.0))

    @classmethod
    def planned(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """As many levels as the longest moment needs, and one; a network no wider than the vectors."""
        lengths = [1.0]
        for query in corpus.queries:
            video = corpus.videos[query.video]
            for span in query.spans:
                first, last = frames_in(video.timestamps_seconds, video.duration_seconds, span)
                lengths.append(last - first)
        needed = 2 + max(0, math.ceil(math.log2(max(lengths) / (2 * _HALF))))
        return {"levels": needed, "width": min(256, corpus.dim), **options}

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> Located:
        """The moments of every timed query, and how well each frame shows it."""
        rows = batch.is_timed.nonzero()[:, 0]
        bounds, seen = edges(batch), self._seen(aligned)
        none = Located(bounds.new_zeros(0, 1, 2), bounds.new_zeros(0, 1), bounds.new_zeros(0, bounds.shape[1] - 1))
        found = [
            self._best(self._points(aligned, batch, seen, some), batch, bounds, some)
            for some in apart(batch, rows, self.together)
        ] or [none]
        return Located(*(torch.cat([getattr(part, f.name) for part in found]) for f in fields(Located)))

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """Scores, ends and saliency of the timed queries."""
        rows = batch.is_timed.nonzero()[:, 0]
        if not len(rows):
            return None
        bounds = edges(batch)
        seen = self._seen(aligned)
        parts = apart(batch, rows, self.together)
        sums = []
        for some in parts:
            if len(parts) == 1:
                sums.append(self._losses(aligned, batch, bounds, seen, some))
            else:
                sums.append(checkpoint(self._losses, aligned, batch, bounds, seen, some, use_reentrant=False))
        total = torch.stack(sums).sum(0)
        return (total[0] + total[1]) / total[3].clamp_min(1) + total[2] / len(rows)

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """`(N, 3)` moments of each timed query, of those that overlap the best."""
        scores = predictions.scores.double()
        found = []
        # Sorted before they are squashed: all that is certain would be equally so.
        for spans, values, chances in zip(
            *(_array(part) for part in (predictions.spans, scores, scores.sigmoid())), strict=True
        ):
            real = np.isfinite(values) & (spans[:, 0] < spans[:, 1])
            kept = np.flatnonzero(real)[nms(spans[real], values[real], self.overlap, most=_LISTED)]
            found.append(np.column_stack([spans[kept], chances[kept]]))
        return found

    def shown(self, predictions: Any, batch: AlignmentBatch) -> list[np.ndarray]:
        """Trained to stand out where annotators saw the query; untrained, its cosines."""
        return of_real_frames(predictions.saliency, batch)

    def _seen(self, aligned: Aligned) -> torch.Tensor:
        """`(B, T, 2 * width)`: frames that know their neighbours, once for all queries."""
        hidden = self.dropout(self.frames(aligned.frames * self.spread)) * aligned.frame_mask.unsqueeze(-1)
        for block in self.near:
            hidden = block(hidden, aligned.frame_mask)
        seen: torch.Tensor = self.seen(hidden)
        return seen

    def _points(self, aligned: Aligned, batch: AlignmentBatch, seen: torch.Tensor, rows: torch.Tensor) -> _Points:
        videos = batch.video_of_query[rows]
        mask = aligned.frame_mask[videos]
        curve = curves(aligned, batch, rows)
        hidden = self._fused(aligned, seen, rows, videos, curve, mask)
        found = self.pyramid(hidden, mask, self.levels)
        said = torch.cat([self._read(level, there) for level, there in found], 1)
        saliency = aligned.scale * curve + self.shows(self.norm(found[0][0])).squeeze(-1)
        strides = torch.cat([torch.full((there.shape[1],), 2.0**k) for k, (_, there) in enumerate(found)]).to(curve)
        places = torch.cat([torch.arange(there.shape[1]) for _, there in found]).to(curve)
        centers = (places + 0.5) * strides
        reach = strides[:, None] * _HALF * functional.softplus(said[..., 1:] + math.log(math.e - 1))
        bounds = centers[:, None] + reach * reach.new_tensor([-1.0, 1.0])
        raised = aligned.scale * _raised(curve, mask.sum(1), centers, strides)
        there = torch.cat([there for _, there in found], 1)
        return _Points(centers, strides, there, self.slope * raised + self.offset + said[..., 0], bounds, saliency)

    def _fused(
        self, aligned: Aligned, seen: torch.Tensor, rows: torch.Tensor, videos: torch.Tensor, curve: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """`(N, T, width)` frames, query, what they have in common, and how the cosine stands out."""
        plain, gate = seen[videos].chunk(2, -1)
        asked, key = self.queries(aligned.queries[rows] * self.spread)[:, None].chunk(2, -1)
        count = mask.sum(1, keepdim=True)
        from_mean = (curve - curve.sum(1, keepdim=True) / count).masked_fill(~mask, 0.0)
        spread = (from_mean.square().sum(1, keepdim=True) / count).sqrt().clamp_min(1e-4)
        shape = self.curve(torch.stack([aligned.scale * from_mean, from_mean / spread], -1))
        return self.dropout(plain + asked + gate * key + shape) * mask.unsqueeze(-1)

    def _read(self, level: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """`(N, K, 3)`: what a level adds to the score, and to the distances to start and end, of its points."""
        hidden = (self.norm(level) * there.unsqueeze(-1)).transpose(1, 2)
        said: torch.Tensor = self.says(self.dropout(functional.gelu(self.tower(hidden)).transpose(1, 2)))
        return said

    def _best(self, points: _Points, batch: AlignmentBatch, bounds: torch.Tensor, rows: torch.Tensor) -> Located:
        ranked = torch.sort(points.scores.masked_fill(~points.there, -torch.inf), dim=1, descending=True, stable=True)
        scores, best = ranked.values[:, :_CONSIDERED], ranked.indices[:, :_CONSIDERED]
        of_query = bounds[batch.video_of_query[rows]]
        places = points.bounds.gather(1, best[..., None].expand(-1, -1, 2)).flatten(1)
        seconds = to_seconds(places, of_query)
        seconds = torch.minimum(torch.maximum(seconds, of_query[:, :1]), of_query[:, -1:])
        return Located(seconds.unflatten(1, (-1, 2)), scores, points.saliency)

    def _losses(
        self, aligned: Aligned, batch: AlignmentBatch, bounds: torch.Tensor, seen: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """`(4,)`: sums of the losses of scores, ends and saliency, and the number of points that find a moment."""
        points = self._points(aligned, batch, seen, rows)
        of_query = bounds[batch.video_of_query[rows]]
        wanted = to_frames(batch.spans[rows].flatten(1), of_query).unflatten(1, (-1, 2))
        moment, finds = _assigned(points, wanted, batch.span_mask[rows], self.radius)
        target = batch.spans[rows].gather(1, moment[..., None].expand(-1, -1, 2))
        found = to_seconds(points.bounds.flatten(1), of_query).unflatten(1, (-1, 2))
        iou, generous = _ious(found[finds], target[finds])
        quality = torch.zeros_like(points.scores)
        quality[finds] = iou.detach()
        near = functional.binary_cross_entropy_with_logits(points.scores, quality, reduction="none")
        scores = ((points.scores.sigmoid() - quality).square() * near)[points.there].sum()
        told = wanted.gather(1, moment[..., None].expand(-1, -1, 2))
        off = (points.bounds - told)[finds] / (points.strides[:, None].expand(len(rows), -1, 2)[finds])
        ends = (1 - generous).sum() + 0.2 * functional.smooth_l1_loss(off, torch.zeros_like(off), reduction="sum")
        shown = rated(batch, rows)
        logs = points.saliency.masked_fill(~batch.frame_mask[batch.video_of_query[rows]], -torch.inf).log_softmax(1)
        shows = -(shown / shown.sum(1, keepdim=True) * logs.masked_fill(shown == 0, 0.0)).sum()
        return torch.stack([scores, ends, shows, finds.sum().to(scores)])


def _array(values: torch.Tensor) -> np.ndarray:
    found: np.ndarray = values.double().cpu().numpy()
    return found


def _raised(curve: torch.Tensor, counts: torch.Tensor, centers: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
    """`(N, K)` mean of the curve in a point's window less that of the whole video, times the root of its length."""
    sums = functional.pad(curve.double().cumsum(1), (1, 0))
    end = counts[:, None].to(sums)
    low = (centers - _HALF * strides)[None].double().clamp_min(0).expand(len(curve), -1)
    high = torch.minimum((centers + _HALF * strides)[None].double(), end)
    length = (high - torch.minimum(low, high)).clamp_min(1e-6)
    mean = sums[:, -1:] / end.clamp_min(1)
    inside = (_at(sums, high) - _at(sums, torch.minimum(low, high))) / length
    return ((inside - mean) * length.sqrt()).to(curve.dtype)


def _at(sums: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    below = places.floor().long().clamp(0, sums.shape[1] - 2)
    first, second = sums.gather(1, below), sums.gather(1, below + 1)
    return first + (places - below) * (second - first)


def _assigned(
    points: _Points, wanted: torch.Tensor, real: torch.Tensor, radius: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which moment `(N, K)` each point is to find, and whether it is to find any. wanted: `(N, P, 2)` in frames."""
    middle, length = wanted.mean(-1), wanted[..., 1] - wanted[..., 0]
    away = (points.centers[None, :, None] - middle[:, None]).abs() / points.strides[None, :, None]
    ratio = length[:, None] / (2 * _HALF * points.strides[None, :, None])
    coarsest = (points.strides[None] * points.there).amax(1)[:, None, None] == points.strides[None, :, None]
    finest = (points.strides == 1)[None, :, None]
    fits = ((ratio >= 0.5) | finest) & ((ratio < 2) | coarsest) & (away <= radius)
    fits &= points.there[..., None] & real[:, None]
    moment = away.masked_fill(~fits, torch.inf).argmin(2)
    return moment, fits.any(2)


def _ious(found: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU, and that less the share of the time from first to last that neither covers (GIoU), of spans `(M, 2)`."""
    shared = (torch.minimum(found[:, 1], target[:, 1]) - torch.maximum(found[:, 0], target[:, 0])).clamp_min(0)
    across = (torch.maximum(found[:, 1], target[:, 1]) - torch.minimum(found[:, 0], target[:, 0])).clamp_min(1e-6)
    covered = (found[:, 1] - found[:, 0] + target[:, 1] - target[:, 0] - shared).clamp_min(1e-6)
    iou = shared / covered
    return iou, iou - (across - covered).clamp_min(0) / across
