"""Contrast of timed captions with segments: mostly within each video, and over all videos.

A sentence often fits segments of other videos as well, which are then false negatives. Within its own
video it says which segment is meant.
"""

from __future__ import annotations

from typing import Any

import torch

MAX_SCORES = 1 << 22
"""Largest number of scores in one matrix; with more the losses are computed blockwise."""
WITHIN_SHARE, WITHIN_SHARE_ALONE = 0.8, 0.5
"""Share of the loss that has the segments of the own video alone as candidates; the second where no
caption of whole videos tells videos apart. Chosen in the rendered world and on hard collages
(docs/development/decisions/segment-negatives.md)."""


def contrast(
    loss: Any,
    scores: torch.Tensor,
    positives: torch.Tensor,
    videos: torch.Tensor,
    within_share: float,
) -> torch.Tensor:
    """Return the weighted mean of the loss over the segments of the own video and of that over all
    segments.

    Args:
        loss: of the kind `pairs`.
        scores: `(Q, Q)` of timed captions and of the segment of each.
        positives: `(Q, Q)` bool.
        videos: `(Q,)` int64, the video of each caption.
        within_share: weight of the first, from 0 to 1.
    """
    within = _within_videos(loss, scores, positives, videos)
    return _mean(within, loss(scores, positives), within_share)


def contrast_blockwise(
    loss: Any,
    queries: torch.Tensor,
    segments: torch.Tensor,
    scale: torch.Tensor,
    pairs: torch.Tensor,
    videos: torch.Tensor,
    within_share: float,
) -> torch.Tensor:
    """Return the value of `contrast` without a matrix of all scores.

    Args:
        loss: of the kind `pairs`.
        queries: `(Q, E)` unit vectors of timed captions.
        segments: `(Q, E)` unit vectors, the segment of each.
        scale: factor of the cosines.
        pairs: `(K, 2)` int64 positive pairs of queries and segments; a pair may occur twice.
        videos: `(Q,)` int64, the video of each caption.
        within_share: as for `contrast`.
    """
    everywhere: torch.Tensor = loss.from_vectors(queries, segments, scale, pairs)
    order = videos.argsort(stable=True)
    sizes = torch.unique_consecutive(videos[order], return_counts=True)[1].tolist()
    total, count = torch.zeros_like(everywhere), 0
    for rows in order.split(_group_sizes(sizes)):
        row_of = torch.full((len(videos),), -1, device=videos.device)
        row_of[rows] = torch.arange(len(rows), device=videos.device)
        own = row_of[pairs]
        own = own[(own >= 0).all(1)]
        positives = torch.zeros(len(rows), len(rows), dtype=torch.bool, device=videos.device)
        positives[own[:, 0], own[:, 1]] = True
        scores = queries[rows] @ segments[rows].T * scale
        number = int(positives.any(1).sum())
        total = total + number * _within_videos(loss, scores, positives, videos[rows])
        count += number
    return _mean(total / max(1, count), everywhere, within_share)


def _mean(within: torch.Tensor, everywhere: torch.Tensor, share: float) -> torch.Tensor:
    return share * within + (1 - share) * everywhere


def _within_videos(
    loss: Any, scores: torch.Tensor, positives: torch.Tensor, videos: torch.Tensor
) -> torch.Tensor:
    """Return the loss where the segments of other videos are neither positive nor negative."""
    is_own = videos[:, None] == videos[None]
    within: torch.Tensor = loss(scores.masked_fill(~is_own, -torch.inf), positives & is_own)
    return within


def _group_sizes(sizes: list[int]) -> list[int]:
    """Return sums of consecutive `sizes`, as large as `MAX_SCORES` allows, of one size at least."""
    groups: list[int] = []
    for size in sizes:
        if groups and (groups[-1] + size) ** 2 <= MAX_SCORES:
            groups[-1] += size
        else:
            groups.append(size)
    return groups
