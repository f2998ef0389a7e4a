"""Points in time at which a moment may be: where each looks at first, which moment it is to find, and what it lost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

HALF = 2.0
"""Strides from a point to either end of the window that it looks at first."""


@dataclass(frozen=True)
class Points:
    """K points of all levels, for N queries; times are counted in frames.

    Attributes:
        centers: `(K,)`.
        strides: `(K,)`, 1, 2, 4, ...
        there: `(N, K)` bool; a level has no more points than the query's video needs.
        scores: `(N, K)` logits of a moment there.
        bounds: `(N, K, 2)` its start and end.
        saliency: `(N, T)` how well each frame shows the query.
    """

    centers: torch.Tensor
    strides: torch.Tensor
    there: torch.Tensor
    scores: torch.Tensor
    bounds: torch.Tensor
    saliency: torch.Tensor


def raised(centered: torch.Tensor, counts: torch.Tensor, centers: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
    """`(N, K)` mean, within a point's first window, of curves `(N, T)` less their mean, times the root of its length.

    counts: `(N,)` frames; windows end where videos do.
    """
    sums = functional.pad(centered.cumsum(1), (1, 0))
    end = counts[:, None].to(sums)
    low = torch.minimum((centers - HALF * strides).clamp_min(0)[None], end)
    high = torch.minimum((centers + HALF * strides)[None], end)
    return (_at(sums, high) - _at(sums, low)) / (high - low).clamp_min(1e-6).sqrt()


def _at(sums: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    below = places.floor().long().clamp(0, sums.shape[1] - 2)
    first, second = sums.gather(1, below), sums.gather(1, below + 1)
    return first + (places - below) * (second - first)


def assigned(
    points: Points, wanted: torch.Tensor, real: torch.Tensor, radius: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which moment `(N, K)` each point is to find, and whether it is to find any.

    One whose middle is at most `radius` strides away, and that is half to twice as long as the point's first window; at the
    finest level also shorter, at the coarsest that its video has also longer. Of several, the nearest.

    Args:
        points: of N queries.
        wanted: `(N, P, 2)` moments, in frames.
        real: `(N, P)` bool, False for padding.
        radius: strides.
    """
    middle, length = wanted.mean(-1), wanted[..., 1] - wanted[..., 0]
    away = (points.centers[None, :, None] - middle[:, None]).abs() / points.strides[None, :, None]
    ratio = length[:, None] / (2 * HALF * points.strides[None, :, None])
    coarsest = (points.strides[None] * points.there).amax(1)[:, None, None] == points.strides[None, :, None]
    finest = (points.strides == 1)[None, :, None]
    fits = ((ratio >= 0.5) | finest) & ((ratio < 2) | coarsest) & (away <= radius)
    fits &= points.there[..., None] & real[:, None]
    moment = away.masked_fill(~fits, torch.inf).argmin(2)
    return moment, fits.any(2)


def ious(found: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU, and that less the share of the time from first to last that neither covers (GIoU), of spans `(M, 2)`."""
    shared = (torch.minimum(found[:, 1], target[:, 1]) - torch.maximum(found[:, 0], target[:, 0])).clamp_min(0)
    across = (torch.maximum(found[:, 1], target[:, 1]) - torch.minimum(found[:, 0], target[:, 0])).clamp_min(1e-6)
    covered = (found[:, 1] - found[:, 0] + target[:, 1] - target[:, 0] - shared).clamp_min(1e-6)
    iou = shared / covered
    return iou, iou - (across - covered).clamp_min(0) / across


def listwise(saliency: torch.Tensor, mask: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """`(N,)` cross-entropy of a softmax over a video's frames with how well each shows the query, made to sum to 1.

    Args:
        saliency: `(N, T)` logits.
        mask: `(N, T)` bool, True for real frames.
        shown: `(N, T)` not negative, some positive; 0 at padding.
    """
    logs = saliency.masked_fill(~mask, -torch.inf).log_softmax(1).masked_fill(~mask, 0.0)
    return -(shown / shown.sum(1, keepdim=True) * logs).sum(1)
