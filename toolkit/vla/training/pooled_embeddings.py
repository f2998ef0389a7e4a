"""Pooled embeddings that the alignment losses compare, and the pairs of them that
belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.losses.base import positive_pairs, same_text_pairs

NUM_SEGMENTS = 8
"""Equal segments of a video whose captions carry no times."""


@dataclass(frozen=True)
class PooledEmbeddings:
    """Vectors in the shared space, of one batch or of several concatenated.

    Attributes:
        queries: `(Q, E)`.
        videos: `(B, E)`.
        moments: `(N, E)`, mean of the spans of each timed query, in the order of queries.
        segments: `(V, NUM_SEGMENTS, E)` of the videos without timed queries; V is 0 without a
            segment level.
        sentences: `(V, S, E)` of one caption of each of these videos.
    """

    queries: torch.Tensor
    videos: torch.Tensor
    moments: torch.Tensor
    segments: torch.Tensor
    sentences: torch.Tensor

    @classmethod
    def from_batch(
        cls, aligned: AlignedBatch, batch: AlignmentBatch, has_segments: bool
    ) -> PooledEmbeddings:
        """Return the embeddings of a batch.

        Args:
            aligned: `batch` in the shared space.
            batch: raw features.
            has_segments: whether the objective has a segment level.
        """
        is_timed, queries = batch.is_timed, soft_targets(batch, has_segments)
        moments = aligned.pool_spans(batch.video_of_query[is_timed], batch.inside[is_timed])
        segments, _ = aligned.equal_segments(batch.video_of_query[queries], NUM_SEGMENTS)
        return cls(aligned.queries, aligned.videos, moments, segments, aligned.sentences[queries])

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All fields, in order."""
        return self.queries, self.videos, self.moments, self.segments, self.sentences

    @classmethod
    def concat(cls, parts: Sequence[PooledEmbeddings]) -> PooledEmbeddings:
        """Return the embeddings of several batches, concatenated."""
        return cls(
            *(_concat_padded(field) for field in zip(*(p.tensors for p in parts), strict=True))
        )


@dataclass(frozen=True)
class PairTargets:
    """Targets of `PooledEmbeddings`, of one batch or of several concatenated.

    Attributes:
        video_of_query: `(Q,)` int64.
        is_timed: `(Q,)` bool.
        texts: `(Q,)` int64, equal for equal texts.
        same_moment: `(K, 2)` int64 rows of timed queries: spans of one video that share more than
            half of their frames; a span that shows a frame is paired with itself.
        segment_mask: `(V, NUM_SEGMENTS)` bool, True for segments that hold a frame.
        sentence_mask: `(V, S)` bool, True for real sentences.
    """

    video_of_query: torch.Tensor
    is_timed: torch.Tensor
    texts: torch.Tensor
    same_moment: torch.Tensor
    segment_mask: torch.Tensor
    sentence_mask: torch.Tensor

    @classmethod
    def from_batch(cls, batch: AlignmentBatch, has_segments: bool) -> PairTargets:
        """Return the targets of `batch`; `has_segments` as in `PooledEmbeddings.from_batch`."""
        is_timed, queries = batch.is_timed, soft_targets(batch, has_segments)
        # A video of fewer frames than segments has segments without a frame.
        position = torch.arange(batch.frame_mask.shape[1], device=is_timed.device)
        mask = batch.frame_mask[batch.video_of_query[queries]]
        owner = (position * NUM_SEGMENTS).div(
            mask.sum(1, keepdim=True).clamp_min(1), rounding_mode="floor"
        )
        counts = torch.zeros(len(queries), NUM_SEGMENTS, device=is_timed.device)
        segment_mask = counts.scatter_add_(1, owner.clamp_max(NUM_SEGMENTS - 1), mask.float()) > 0
        moments = _same_moment_pairs(batch.inside[is_timed], batch.video_of_query[is_timed])
        texts = row_hashes(batch.queries)
        return cls(
            batch.video_of_query,
            is_timed,
            texts,
            moments,
            segment_mask,
            batch.sentence_mask[queries],
        )

    @classmethod
    def concat(cls, parts: Sequence[PairTargets], num_videos: Sequence[int]) -> PairTargets:
        """Return the targets of several batches of `num_videos` videos each, concatenated."""
        shifted, videos, timed_offset = [], 0, 0
        for part, count in zip(parts, num_videos, strict=True):
            rows = (
                part.video_of_query + videos,
                part.is_timed,
                part.texts,
                part.same_moment + timed_offset,
            )
            shifted.append((*rows, part.segment_mask, part.sentence_mask))
            videos, timed_offset = videos + count, timed_offset + int(part.is_timed.sum())
        return cls(*(_concat_padded(field) for field in zip(*shifted, strict=True)))

    def video_pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the positive and the ignored pairs of untimed queries and videos.

        Returns:
            `(K, 2)` int64, rows of untimed queries with their videos; `(X, 2)` int64, pairs that
            are no negatives either, because the video has an equal caption.
        """
        videos = self.video_of_query[~self.is_timed]
        texts = torch.unique(self.texts[~self.is_timed], return_inverse=True)[1]
        return positive_pairs(videos), same_text_pairs(videos, texts)

    def moment_pairs(self) -> torch.Tensor:
        """Return `(K, 2)` int64 positive pairs of timed queries and moments.

        A pair may occur twice.
        """
        return torch.cat([self.same_moment, _pairs_within(self.texts[self.is_timed])])


def soft_targets(batch: AlignmentBatch, has_segments: bool) -> torch.Tensor:
    """Return `(V,)` int64 rows of queries for soft alignment: the first of each video without timed
    queries.

    Timed captions locate a video's content better than a soft alignment. One text a video: several
    would be each other's negatives. V is 0 unless `has_segments`.
    """
    is_untimed = ~batch.is_timed
    if not has_segments:
        return is_untimed.nonzero().squeeze(1)[:0]
    has_no_times = torch.ones(len(batch.frames), dtype=torch.bool, device=is_untimed.device)
    has_no_times[batch.video_of_query[batch.is_timed]] = False
    index = (is_untimed & has_no_times[batch.video_of_query]).nonzero().squeeze(1).flip(0)
    videos, row = torch.unique(batch.video_of_query[index], return_inverse=True)
    first = torch.full((len(videos),), -1, dtype=torch.int64, device=is_untimed.device)
    first[row] = index
    return first


def row_hashes(texts: torch.Tensor) -> torch.Tensor:
    """Return `(N,)` int64 hashes of raw texts `(N, D)` float32; equal rows have equal hashes."""
    # Distances computed by a matrix product have larger errors than the differences of texts;
    # integers are exact.
    bits = texts.contiguous().view(torch.int32).long()
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, bits.shape[1:], generator=generator).to(bits.device)
    return (bits * factors).sum(1)


def _concat_padded(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return `(N, ...)`, the parts concatenated.

    A second dimension is padded with zeros to the longest.
    """
    if parts[0].ndim < 2:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    padding = [(0, 0) * (part.ndim - 2) + (0, longest - part.shape[1]) for part in parts]
    return torch.cat([functional.pad(part, pad) for part, pad in zip(parts, padding, strict=True)])


def _same_moment_pairs(inside: torch.Tensor, videos: torch.Tensor) -> torch.Tensor:
    """Return `(K, 2)` int64 pairs of spans of one video that share more than half of their frames.

    Args:
        inside: `(N, T)` bool, the frames of each span.
        videos: `(N,)` int64.
    """
    pairs = _pairs_within(videos)
    frames, size = inside.float(), inside.sum(1)
    common = (frames[pairs[:, 0]] * frames[pairs[:, 1]]).sum(1)
    union = size[pairs].sum(1) - common
    return pairs[common / union.clamp_min(1) > 0.5]


def _pairs_within(groups: torch.Tensor) -> torch.Tensor:
    """Return `(K, 2)` int64: all pairs of rows of equal `groups` `(N,)`, each row with
    itself, too.
    """
    order = groups.argsort(stable=True)
    sorted_groups = groups[order]
    first = torch.searchsorted(sorted_groups, sorted_groups)
    count = torch.searchsorted(sorted_groups, sorted_groups, right=True) - first
    row = torch.repeat_interleave(torch.arange(len(groups), device=groups.device), count)
    step = torch.arange(len(row), device=groups.device) - (count.cumsum(0) - count)[row]
    return torch.stack([order[row], order[first[row] + step]], 1)
