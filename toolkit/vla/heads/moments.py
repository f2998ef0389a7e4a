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

from vla.batches.batch import Aligned, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.heads import base
from vla.heads._frames import (
    chunk_rows,
    edges,
    of_real_frames,
    saliency_targets,
    to_frames,
    to_seconds,
    window_contrast,
)
from vla.heads._points import HALF, Points, assigned, ious, listwise, raised
from vla.heads._pyramid import Block, Pyramid
from vla.heads.base import LocalizationBatch, LocalizedMoments
from vla.spans import frames_in, nms

_CONSIDERED = 1000
_LISTED = 50
_FLAT = 1e-3
_ABSOLUTE = 0.2
"""Weight of how many strides an end is off, beside GIoU, of which a brief moment has most."""


@dataclass(frozen=True)
class MomentOutput:
    """What was found for N queries.

    Attributes:
        spans: `(N, K, 2)` seconds, best first, within the video.
        scores: `(N, K)` logits; -inf where there are fewer.
        saliency: `(N, T)` how well each frame shows the query; of no meaning at padding.
    """

    spans: torch.Tensor
    scores: torch.Tensor
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
        needed = 2 + max(0, math.ceil(math.log2(max(lengths) / (2 * HALF))))
        return {"levels": needed, "width": min(256, corpus.dim), **options}

    def localize(self, batch: LocalizationBatch) -> list[LocalizedMoments]:
        """The moments of each text that overlap the best by little, and its saliency.

        Saliency is trained to stand out where annotators saw the text; untrained, it is the cosines.
        """
        located = self.located(batch)
        saliency = of_real_frames(located.saliency, batch)
        return [LocalizedMoments(*row) for row in zip(self.select(located), saliency, strict=True)]

    def located(self, batch: LocalizationBatch) -> MomentOutput:
        """The moments of every text as tensors, those that overlap among them."""
        bounds, seen = edges(batch), self._seen(batch)
        none = MomentOutput(bounds.new_zeros(0, 1, 2), bounds.new_zeros(0, 1), bounds.new_zeros(0, bounds.shape[1] - 1))
        groups = [
            self._best(self._points(batch, seen, rows), batch, bounds, rows)
            for rows in chunk_rows(batch, self.together)
        ] or [none]
        return MomentOutput(*(torch.cat([getattr(group, f.name) for group in groups]) for f in fields(MomentOutput)))

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """Scores, ends and saliency of the timed queries."""
        rows = batch.is_timed.nonzero()[:, 0]
        if not len(rows):
            return None
        videos = LocalizationBatch.from_batch(aligned, batch)
        bounds = edges(videos)
        seen = self._seen(videos)
        groups = chunk_rows(videos, self.together)
        sums = []
        for group in groups:
            if len(groups) == 1:
                sums.append(self._losses(videos, batch, bounds, seen, group))
            else:
                sums.append(checkpoint(self._losses, videos, batch, bounds, seen, group, use_reentrant=False))
        total = torch.stack(sums).sum(0)
        return (total[0] + total[1]) / total[3].clamp_min(1) + total[2] / len(rows)

    def select(self, located: MomentOutput) -> list[np.ndarray]:
        """`(K, 3)` moments of each text; of those that overlap, the best."""
        scores = located.scores.cpu().double()
        found = []
        # Sorted before they are squashed: all that is certain would be equally so.
        for spans, values, chances in zip(
            *(_array(part) for part in (located.spans, scores, scores.sigmoid())), strict=True
        ):
            real = np.isfinite(values) & (spans[:, 0] < spans[:, 1])
            kept = np.flatnonzero(real)[nms(spans[real], values[real], self.overlap, most=_LISTED)]
            found.append(np.column_stack([spans[kept], chances[kept]]))
        return found

    def _seen(self, batch: LocalizationBatch) -> torch.Tensor:
        """`(B, T, 2 * width)`: frames that know their neighbours, once for all queries."""
        hidden = self.dropout(self.frames(batch.frames * self.spread)) * batch.frame_mask.unsqueeze(-1)
        for block in self.near:
            hidden = block(hidden, batch.frame_mask)
        seen: torch.Tensor = self.seen(hidden)
        return seen

    def _points(self, batch: LocalizationBatch, seen: torch.Tensor, rows: torch.Tensor) -> Points:
        videos = batch.video_of_text[rows]
        mask = batch.frame_mask[videos]
        curve = window_contrast(batch, rows)
        count = mask.sum(1)
        centered = (curve - curve.sum(1, keepdim=True) / count[:, None]).masked_fill(~mask, 0.0)
        hidden = self._fused(batch.texts[rows], seen[videos], batch.scale * centered, mask)
        found = self.pyramid(hidden, mask, self.levels)
        said = torch.cat([self._read(level, there) for level, there in found], 1)
        saliency = batch.scale * curve + self.shows(self.norm(found[0][0])).squeeze(-1)
        strides = torch.cat([torch.full((there.shape[1],), 2.0**k) for k, (_, there) in enumerate(found)]).to(curve)
        places = torch.cat([torch.arange(there.shape[1]) for _, there in found]).to(curve)
        centers = (places + 0.5) * strides
        reach = strides[:, None] * HALF * functional.softplus(said[..., 1:] + math.log(math.e - 1))
        bounds = centers[:, None] + reach * reach.new_tensor([-1.0, 1.0])
        scores = self.slope * batch.scale * raised(centered, count, centers, strides) + self.offset + said[..., 0]
        return Points(centers, strides, torch.cat([there for _, there in found], 1), scores, bounds, saliency)

    def _fused(
        self, queries: torch.Tensor, seen: torch.Tensor, curve: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """`(N, T, width)` frames, query, what they have in common, and how the cosine stands out."""
        plain, gate = seen.chunk(2, -1)
        asked, key = self.queries(queries * self.spread)[:, None].chunk(2, -1)
        deviation = (curve.square().sum(1, keepdim=True) / mask.sum(1, keepdim=True)).sqrt().clamp_min(_FLAT)
        both = self.curve(torch.stack([curve, curve / deviation], -1))
        return self.dropout(plain + asked + gate * key + both) * mask.unsqueeze(-1)

    def _read(self, level: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """`(N, K, 3)`: what a level adds to the score, and to the distances to start and end, of its points."""
        hidden = (self.norm(level) * there.unsqueeze(-1)).transpose(1, 2)
        said: torch.Tensor = self.says(self.dropout(functional.gelu(self.tower(hidden)).transpose(1, 2)))
        return said

    def _best(self, points: Points, batch: LocalizationBatch, bounds: torch.Tensor, rows: torch.Tensor) -> MomentOutput:
        ranked = torch.sort(points.scores.masked_fill(~points.there, -torch.inf), dim=1, descending=True, stable=True)
        scores, best = ranked.values[:, :_CONSIDERED], ranked.indices[:, :_CONSIDERED]
        of_query = bounds[batch.video_of_text[rows]]
        places = points.bounds.gather(1, best[..., None].expand(-1, -1, 2)).flatten(1)
        seconds = to_seconds(places, of_query)
        seconds = torch.minimum(torch.maximum(seconds, of_query[:, :1]), of_query[:, -1:])
        return MomentOutput(seconds.unflatten(1, (-1, 2)), scores, points.saliency)

    def _losses(
        self, videos: LocalizationBatch, batch: AlignmentBatch, bounds: torch.Tensor, seen: torch.Tensor,
        rows: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """`(4,)`: sums of the losses of scores, ends and saliency, and the number of points that find a moment."""
        points = self._points(videos, seen, rows)
        of_query = bounds[batch.video_of_query[rows]]
        wanted = to_frames(batch.spans[rows].flatten(1), of_query).unflatten(1, (-1, 2))
        moment, finds = assigned(points, wanted, batch.span_mask[rows], self.radius)
        mine = moment[..., None].expand(-1, -1, 2)
        found = to_seconds(points.bounds.flatten(1), of_query).unflatten(1, (-1, 2))
        iou, generous = ious(found[finds], batch.spans[rows].gather(1, mine)[finds])
        off = ((points.bounds - wanted.gather(1, mine)) / points.strides[:, None])[finds]
        quality = torch.zeros_like(points.scores)
        quality[finds] = iou.detach()
        surprise = functional.binary_cross_entropy_with_logits(points.scores, quality, reduction="none")
        scores = ((points.scores.sigmoid() - quality).square() * surprise)[points.there].sum()
        ends = (1 - generous).sum() + _ABSOLUTE * functional.smooth_l1_loss(off, torch.zeros_like(off), reduction="sum")
        shows = listwise(
            points.saliency, batch.frame_mask[batch.video_of_query[rows]], saliency_targets(batch, rows)
        ).sum()
        return torch.stack([scores, ends, shows, finds.sum().to(scores)])


def _array(values: torch.Tensor) -> np.ndarray:
    found: np.ndarray = values.cpu().double().numpy()
    return found
