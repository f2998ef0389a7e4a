"""Moment localization head."""

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

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.heads import base
from vla.heads._frames import (
    chunk_rows,
    edges,
    saliency_targets,
    similarity_curves,
    to_frames,
    to_seconds,
    unpad_curves,
    unpad_saliency,
)
from vla.heads._points import HALF, Points, assign_moments, ious, listwise_loss, window_contrast
from vla.heads._pyramid import Block, Pyramid
from vla.heads.base import LocalizationBatch, LocalizedMoments
from vla.localization.refinement import refine_spans
from vla.spans import frames_in, nms

_MAX_CANDIDATES = 1000
_MAX_MOMENTS = 50
_MIN_DEVIATION = 1e-3
_MIN_CONTRAST = 1e-9
_L1_WEIGHT = 0.2
"""Weight of the distance of the ends in strides, beside GIoU, which short moments dominate."""


@dataclass(frozen=True)
class MomentOutput:
    """Predicted moments of N queries.

    Attributes:
        spans: `(N, K, 2)` seconds, best first, within the video.
        scores: `(N, K)` logits; -inf at padding.
        saliency: `(N, T)` relevance of each frame; undefined at padding.
    """

    spans: torch.Tensor
    scores: torch.Tensor
    saliency: torch.Tensor


class Head(base.Head):
    """Points at strides 1, 2, 4, ... frames, each with a score and distances to the start and end
    of its moment.

    Untrained, a point represents the window of four strides around it, and its score is the excess
    of the mean cosine inside over the video's mean, times the root of the window's length: the
    optimal detector of a step in a noisy curve. Its ends then move to where that contrast is
    highest nearby (`contrast_ends`). Training adds to the score and moves the ends. The
    form is that of R2-Tuning (Liu et al., ECCV 2024) and ActionFormer (Zhang et al., ECCV 2022);
    scores learn the IoU of the prediction (quality focal loss, Li et al., NeurIPS 2020).

    Args:
        dim: width of the aligned vectors.
        width: of the network; by default the minimum of `dim` and 256.
        depth: convolutions over the frames before the query is added; one more comes after.
        levels: strides are at most `2 ** (levels - 1)` frames; by default from the longest training
            moment.
        dropout: of hidden units.
        radius: maximum distance of a point from the center of its target, in strides.
        overlap: IoU threshold of non-maximum suppression.
        together: maximum number of frames, over all queries, in one chunk; bounds the memory.

    Attributes:
        contrast_ends: bool scalar, whether moments are refined by `vla.localization.refinement`:
            until the head is trained. Ends that were learned from many moments are better without;
            `vla train` selects it.
    """

    task = "moments"
    gate_buffers = frozenset({"contrast_ends"})

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
        self.contrast_ends: torch.Tensor
        self.register_buffer("contrast_ends", torch.tensor(True))

    @classmethod
    def resolve_options(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `options` with the levels that the longest moment needs, and a width of at most
        that of the vectors.
        """
        lengths = [1.0]
        for query in corpus.queries:
            video = corpus.videos[query.video]
            for span in query.spans:
                first, last = frames_in(video.timestamps_seconds, video.duration_seconds, span)
                lengths.append(last - first)
        levels = 2 + max(0, math.ceil(math.log2(max(lengths) / (2 * HALF))))
        return {"levels": levels, "width": min(256, corpus.dim), **options}

    def localize(self, batch: LocalizationBatch) -> list[LocalizedMoments]:
        """Return the moments of each text after non-maximum suppression, and its saliency.

        Saliency is trained on the annotators' ratings; untrained, it is the cosines.
        """
        output = self.predict_moments(batch)
        saliency = unpad_saliency(output.saliency, batch)
        moments = self.select(output)
        if self.contrast_ends:
            rows = zip(moments, unpad_curves(batch), strict=True)
            moments = [self._refine(spans, *curve) for spans, curve in rows]
        return [LocalizedMoments(*row) for row in zip(moments, saliency, strict=True)]

    def predict_moments(self, batch: LocalizationBatch) -> MomentOutput:
        """Return the moments of every text as tensors, before non-maximum suppression."""
        bounds, context = edges(batch), self._frame_features(batch)
        chunks = [
            self._top_moments(self._points(batch, context, rows), batch, bounds, rows)
            for rows in chunk_rows(batch, self.together)
        ]
        if not chunks:
            saliency = bounds.new_zeros(0, bounds.shape[1] - 1)
            return MomentOutput(bounds.new_zeros(0, 1, 2), bounds.new_zeros(0, 1), saliency)
        return MomentOutput(
            *(torch.cat([getattr(chunk, f.name) for chunk in chunks]) for f in fields(MomentOutput))
        )

    def loss(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor | None:
        """Return the losses of scores, ends and saliency of the timed queries, summed."""
        rows = batch.is_timed.nonzero()[:, 0]
        if not len(rows):
            return None
        self.contrast_ends.fill_(False)
        videos = LocalizationBatch.from_batch(aligned, batch)
        bounds = edges(videos)
        context = self._frame_features(videos)
        chunks = chunk_rows(videos, self.together)
        sums = []
        for chunk in chunks:
            if len(chunks) == 1:
                sums.append(self._losses(videos, batch, bounds, context, chunk))
            else:
                sums.append(
                    checkpoint(
                        self._losses, videos, batch, bounds, context, chunk, use_reentrant=False
                    )
                )
        total = torch.stack(sums).sum(0)
        return (total[0] + total[1]) / total[3].clamp_min(1) + total[2] / len(rows)

    def select(self, output: MomentOutput) -> list[np.ndarray]:
        """Return the moments `(K, 3)` of each text after non-maximum suppression."""
        logits = output.scores.cpu().double()
        moments = []
        arrays = (_array(values) for values in (output.spans, logits, logits.sigmoid()))
        # Suppression by logits: sigmoids of large logits are equal.
        for spans, scores, probabilities in zip(*arrays, strict=True):
            is_valid = np.isfinite(scores) & (spans[:, 0] < spans[:, 1])
            best = np.flatnonzero(is_valid)[
                nms(spans[is_valid], scores[is_valid], self.overlap, most=_MAX_MOMENTS)
            ]
            moments.append(np.column_stack([spans[best], probabilities[best]]))
        return moments

    def _refine(
        self, moments: np.ndarray, similarities: np.ndarray, bounds: np.ndarray
    ) -> np.ndarray:
        """Return moments `(K, 3)` with ends by contrast.

        The score becomes the geometric mean of the probability and of the contrast as a share of
        the highest one.
        """
        if not len(moments):
            return moments
        spans, contrasts = refine_spans(similarities, bounds, moments[:, :2])
        shares = np.clip(contrasts / max(contrasts.max(), _MIN_CONTRAST), 0.0, 1.0)
        scores = np.sqrt(moments[:, 2] * shares)
        best = nms(spans, scores, self.overlap, most=_MAX_MOMENTS)
        return np.column_stack([spans[best], scores[best]])

    def _frame_features(self, batch: LocalizationBatch) -> torch.Tensor:
        """Return `(B, T, 2 * width)`, features of frames and their neighbours, shared by all
        queries.
        """
        hidden = self.dropout(self.frames(batch.frames * self.spread)) * batch.frame_mask.unsqueeze(
            -1
        )
        for block in self.near:
            hidden = block(hidden, batch.frame_mask)
        context: torch.Tensor = self.seen(hidden)
        return context

    def _points(
        self, batch: LocalizationBatch, context: torch.Tensor, rows: torch.Tensor
    ) -> Points:
        videos = batch.video_of_text[rows]
        mask = batch.frame_mask[videos]
        curve = similarity_curves(batch, rows)
        count = mask.sum(1)
        centered = (curve - curve.sum(1, keepdim=True) / count[:, None]).masked_fill(~mask, 0.0)
        hidden = self._fuse(batch.texts[rows], context[videos], batch.scale * centered, mask)
        levels = self.pyramid(hidden, mask, self.levels)
        output = torch.cat(
            [self._predict(features, level_mask) for features, level_mask in levels], 1
        )
        saliency = batch.scale * curve + self.shows(self.norm(levels[0][0])).squeeze(-1)
        sizes = [level_mask.shape[1] for _, level_mask in levels]
        strides = torch.cat([torch.full((size,), 2.0**k) for k, size in enumerate(sizes)]).to(curve)
        index = torch.cat([torch.arange(size) for size in sizes]).to(curve)
        centers = (index + 0.5) * strides
        reach = (
            strides[:, None] * HALF * functional.softplus(output[..., 1:] + math.log(math.e - 1))
        )
        bounds = centers[:, None] + reach * reach.new_tensor([-1.0, 1.0])
        contrast = window_contrast(centered, count, centers, strides)
        scores = self.slope * batch.scale * contrast + self.offset + output[..., 0]
        point_mask = torch.cat([level_mask for _, level_mask in levels], 1)
        return Points(centers, strides, point_mask, scores, bounds, saliency)

    def _fuse(
        self, queries: torch.Tensor, context: torch.Tensor, curve: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return `(N, T, width)`, features of frames and query, their product, and the similarity
        curve.
        """
        frames, gate = context.chunk(2, -1)
        query, key = self.queries(queries * self.spread)[:, None].chunk(2, -1)
        deviation = (curve.square().sum(1, keepdim=True) / mask.sum(1, keepdim=True)).sqrt()
        of_curve = self.curve(torch.stack([curve, curve / deviation.clamp_min(_MIN_DEVIATION)], -1))
        return self.dropout(frames + query + gate * key + of_curve) * mask.unsqueeze(-1)

    def _predict(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return `(N, K, 3)`, corrections of the score and of the distances to start and end of a
        level's points.
        """
        hidden = (self.norm(features) * mask.unsqueeze(-1)).transpose(1, 2)
        output: torch.Tensor = self.says(
            self.dropout(functional.gelu(self.tower(hidden)).transpose(1, 2))
        )
        return output

    def _top_moments(
        self, points: Points, batch: LocalizationBatch, bounds: torch.Tensor, rows: torch.Tensor
    ) -> MomentOutput:
        order = torch.sort(
            points.scores.masked_fill(~points.mask, -torch.inf), dim=1, descending=True, stable=True
        )
        scores, best = order.values[:, :_MAX_CANDIDATES], order.indices[:, :_MAX_CANDIDATES]
        of_query = bounds[batch.video_of_text[rows]]
        positions = points.bounds.gather(1, best[..., None].expand(-1, -1, 2)).flatten(1)
        seconds = to_seconds(positions, of_query)
        seconds = torch.minimum(torch.maximum(seconds, of_query[:, :1]), of_query[:, -1:])
        return MomentOutput(seconds.unflatten(1, (-1, 2)), scores, points.saliency)

    def _losses(
        self, videos: LocalizationBatch, batch: AlignmentBatch, bounds: torch.Tensor, context: torch.Tensor,
        rows: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Return `(4,)`: sums of the losses of scores, ends and saliency, and the number of points
        with a target.
        """
        points = self._points(videos, context, rows)
        of_query = bounds[batch.video_of_query[rows]]
        targets = to_frames(batch.spans[rows].flatten(1), of_query).unflatten(1, (-1, 2))
        moment, has_target = assign_moments(points, targets, batch.span_mask[rows], self.radius)
        index = moment[..., None].expand(-1, -1, 2)
        spans = to_seconds(points.bounds.flatten(1), of_query).unflatten(1, (-1, 2))
        iou, giou = ious(spans[has_target], batch.spans[rows].gather(1, index)[has_target])
        offsets = ((points.bounds - targets.gather(1, index)) / points.strides[:, None])[has_target]
        quality = torch.zeros_like(points.scores)
        quality[has_target] = iou.detach()
        cross_entropy = functional.binary_cross_entropy_with_logits(
            points.scores, quality, reduction="none"
        )
        scores = ((points.scores.sigmoid() - quality).square() * cross_entropy)[points.mask].sum()
        l1 = functional.smooth_l1_loss(offsets, torch.zeros_like(offsets), reduction="sum")
        ends = (1 - giou).sum() + _L1_WEIGHT * l1
        frame_mask = batch.frame_mask[batch.video_of_query[rows]]
        saliency = listwise_loss(points.saliency, frame_mask, saliency_targets(batch, rows)).sum()
        return torch.stack([scores, ends, saliency, has_target.sum().to(scores)])


def _array(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.cpu().double().numpy()
    return array
