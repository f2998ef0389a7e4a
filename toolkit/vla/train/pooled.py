"""What alignment compares: one vector of each text, of each video and of each moment, and which of them belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vla.batch import Aligned, AlignmentBatch
from vla.losses.base import positive_pairs, same_text_pairs


@dataclass(frozen=True)
class Pooled:
    """Vectors in the shared space, of a batch or of several one after the other.

    Attributes:
        queries: `(Q, E)`.
        videos: `(B, E)`.
        moments: `(N, E)`, what each timed query tells of, in their order.
    """

    queries: torch.Tensor
    videos: torch.Tensor
    moments: torch.Tensor

    @classmethod
    def of(cls, aligned: Aligned, batch: AlignmentBatch) -> Pooled:
        """Those of `batch`, which `aligned` is."""
        timed = batch.is_timed
        return cls(aligned.queries, aligned.videos, aligned.pooled(batch.video_of_query[timed], batch.inside[timed]))

    @property
    def each(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All of them."""
        return self.queries, self.videos, self.moments


@dataclass(frozen=True)
class Told:
    """What a batch, or several one after the other, says of the vectors of `Pooled`.

    Attributes:
        video_of_query: `(Q,)` int64.
        is_timed: `(Q,)` bool.
        texts: `(Q,)` int64, equal where the very same words are.
        same_moment: `(K, 2)` int64 places among the timed queries: spans of one video that share more than half of their
            frames, each with itself, too, if it shows a frame.
    """

    video_of_query: torch.Tensor
    is_timed: torch.Tensor
    texts: torch.Tensor
    same_moment: torch.Tensor

    @classmethod
    def of(cls, batch: AlignmentBatch) -> Told:
        """That of `batch`."""
        timed = batch.is_timed
        moments = _of_one_moment(batch.inside[timed], batch.video_of_query[timed])
        return cls(batch.video_of_query, timed, keys(batch.queries), moments)

    @classmethod
    def joined(cls, parts: Sequence[Told], videos: Sequence[int]) -> Told:
        """That of batches one after the other, of so many `videos` each."""
        shifted, before, timed = [], 0, 0
        for part, count in zip(parts, videos, strict=True):
            shifted.append((part.video_of_query + before, part.is_timed, part.texts, part.same_moment + timed))
            before, timed = before + count, timed + int(part.is_timed.sum())
        return cls(*(torch.cat(some) for some in zip(*shifted, strict=True)))

    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`(K, 2)` untimed queries, counted by themselves, with their videos; `(X, 2)` with those that are not wrong either."""
        videos = self.video_of_query[~self.is_timed]
        texts = torch.unique(self.texts[~self.is_timed], return_inverse=True)[1]
        return positive_pairs(videos), same_text_pairs(videos, texts)

    def alike(self) -> torch.Tensor:
        """`(K, 2)` timed queries and the moments that fit them; a pair may stand there twice."""
        return torch.cat([self.same_moment, _pairs_within(self.texts[self.is_timed])])


def keys(texts: torch.Tensor) -> torch.Tensor:
    """`(N,)` whole numbers of raw texts `(N, D)`: the same for the same."""
    # Distances from a product of matrices are off by more than what different texts differ by; whole numbers are exact.
    bits = texts.contiguous().view(torch.int32).long()
    chance = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, bits.shape[1:], generator=chance).to(bits.device)
    return (bits * factors).sum(1)


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
