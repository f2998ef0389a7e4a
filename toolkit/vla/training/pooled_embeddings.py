"""What alignment compares: a vector of each text, of each video, moment and part, and which of them belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from vla.batches.batch import Aligned, AlignmentBatch
from vla.losses.base import positive_pairs, same_text_pairs

PARTS = 8
"""Equal parts into which a video is cut where its captions carry no times."""


@dataclass(frozen=True)
class PooledEmbeddings:
    """Vectors in the shared space, of a batch or of several one after the other.

    Attributes:
        queries: `(Q, E)`.
        videos: `(B, E)`.
        moments: `(N, E)`, what each timed query tells of, in their order.
        parts: `(V, PARTS, E)` of the videos of which nothing is timed; of none where no soft alignment is wanted.
        sentences: `(V, S, E)` of one caption of each of these.
    """

    queries: torch.Tensor
    videos: torch.Tensor
    moments: torch.Tensor
    parts: torch.Tensor
    sentences: torch.Tensor

    @classmethod
    def of(cls, aligned: Aligned, batch: AlignmentBatch, is_segment: bool) -> PooledEmbeddings:
        """Those of `batch`, which `aligned` is."""
        timed, softly = batch.is_timed, soft_targets(batch, is_segment)
        moments = aligned.pooled(batch.video_of_query[timed], batch.inside[timed])
        parts, _ = aligned.parts(batch.video_of_query[softly], PARTS)
        return cls(aligned.queries, aligned.videos, moments, parts, aligned.sentences[softly])

    @property
    def each(self) -> tuple[torch.Tensor, ...]:
        """All of them."""
        return self.queries, self.videos, self.moments, self.parts, self.sentences

    @classmethod
    def joined(cls, parts: Sequence[PooledEmbeddings]) -> PooledEmbeddings:
        """Those of batches one after the other."""
        return cls(*(_end_to_end(some) for some in zip(*(p.each for p in parts), strict=True)))


@dataclass(frozen=True)
class PairTargets:
    """What a batch, or several one after the other, says of the vectors of `PooledEmbeddings`.

    Attributes:
        video_of_query: `(Q,)` int64.
        is_timed: `(Q,)` bool.
        texts: `(Q,)` int64, equal where the very same words are.
        same_moment: `(K, 2)` int64 places among the timed queries: spans of one video that share more than half of their
            frames, each with itself, too, if it shows a frame.
        part_mask: `(V, PARTS)` bool, which of `PooledEmbeddings.parts` hold a frame.
        sentence_mask: `(V, S)` bool, which of `PooledEmbeddings.sentences` there are.
    """

    video_of_query: torch.Tensor
    is_timed: torch.Tensor
    texts: torch.Tensor
    same_moment: torch.Tensor
    part_mask: torch.Tensor
    sentence_mask: torch.Tensor

    @classmethod
    def of(cls, batch: AlignmentBatch, is_segment: bool) -> PairTargets:
        """That of `batch`."""
        timed, softly = batch.is_timed, soft_targets(batch, is_segment)
        # A video of fewer frames than parts has parts without any.
        place = torch.arange(batch.frame_mask.shape[1], device=timed.device)
        mask = batch.frame_mask[batch.video_of_query[softly]]
        owner = (place * PARTS).div(mask.sum(1, keepdim=True).clamp_min(1), rounding_mode="floor").clamp_max(PARTS - 1)
        held = torch.zeros(len(softly), PARTS, device=timed.device).scatter_add_(1, owner, mask.float()) > 0
        moments = _of_one_moment(batch.inside[timed], batch.video_of_query[timed])
        return cls(batch.video_of_query, timed, row_hashes(batch.queries), moments, held, batch.sentence_mask[softly])

    @classmethod
    def joined(cls, parts: Sequence[PairTargets], videos: Sequence[int]) -> PairTargets:
        """That of batches one after the other, of so many `videos` each."""
        shifted, before, timed = [], 0, 0
        for part, count in zip(parts, videos, strict=True):
            places = part.video_of_query + before, part.is_timed, part.texts, part.same_moment + timed
            shifted.append((*places, part.part_mask, part.sentence_mask))
            before, timed = before + count, timed + int(part.is_timed.sum())
        return cls(*(_end_to_end(some) for some in zip(*shifted, strict=True)))

    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`(K, 2)` untimed queries, counted by themselves, with their videos; `(X, 2)` with those that are not wrong either."""
        videos = self.video_of_query[~self.is_timed]
        texts = torch.unique(self.texts[~self.is_timed], return_inverse=True)[1]
        return positive_pairs(videos), same_text_pairs(videos, texts)

    def alike(self) -> torch.Tensor:
        """`(K, 2)` timed queries and the moments that fit them; a pair may stand there twice."""
        return torch.cat([self.same_moment, _pairs_within(self.texts[self.is_timed])])


def soft_targets(batch: AlignmentBatch, is_segment: bool) -> torch.Tensor:
    """`(V,)` queries: the first caption of each video of which none is timed here; none where no segments are wanted.

    Where a video has timed captions these say more than any soft alignment could find out. One text a video: several would
    be each other's negatives.
    """
    plain = ~batch.is_timed
    if not is_segment:
        return plain.nonzero().squeeze(1)[:0]
    untold = torch.ones(len(batch.frames), dtype=torch.bool, device=plain.device)
    untold[batch.video_of_query[batch.is_timed]] = False
    index = (plain & untold[batch.video_of_query]).nonzero().squeeze(1).flip(0)
    videos, place = torch.unique(batch.video_of_query[index], return_inverse=True)
    chosen = torch.full((len(videos),), -1, dtype=torch.int64, device=plain.device)
    chosen[place] = index
    return chosen


def row_hashes(texts: torch.Tensor) -> torch.Tensor:
    """`(N,)` whole numbers of raw texts `(N, D)`: the same for the same."""
    # Distances from a product of matrices are off by more than what different texts differ by; whole numbers are exact.
    bits = texts.contiguous().view(torch.int32).long()
    chance = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, bits.shape[1:], generator=chance).to(bits.device)
    return (bits * factors).sum(1)


def _end_to_end(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(N, ...)`; of what has a second dimension, padded with zeros to the longest."""
    if parts[0].ndim < 2:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    behind = [(0, 0) * (part.ndim - 2) + (0, longest - part.shape[1]) for part in parts]
    return torch.cat([functional.pad(part, pad) for part, pad in zip(parts, behind, strict=True)])


def _of_one_moment(inside: torch.Tensor, videos: torch.Tensor) -> torch.Tensor:
    """`(K, 2)` the pairs of spans, their frames `(N, T)`, of one video that share more than half of their frames."""
    pairs = _pairs_within(videos)
    frames, size = inside.float(), inside.sum(1)
    common = (frames[pairs[:, 0]] * frames[pairs[:, 1]]).sum(1)
    either = size[pairs].sum(1) - common
    return pairs[common / either.clamp_min(1) > 0.5]


def _pairs_within(groups: torch.Tensor) -> torch.Tensor:
    """`(K, 2)` int64: all pairs of places whose `groups` `(N,)` are equal, each place with itself, too."""
    order = groups.argsort(stable=True)
    ranked = groups[order]
    first = torch.searchsorted(ranked, ranked)
    count = torch.searchsorted(ranked, ranked, right=True) - first
    one = torch.repeat_interleave(torch.arange(len(groups), device=groups.device), count)
    step = torch.arange(len(one), device=groups.device) - (count.cumsum(0) - count)[one]
    return torch.stack([order[one], order[first[one] + step]], 1)
