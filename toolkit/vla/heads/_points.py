"""Anchor points of moment localization: their initial windows, their targets and their losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

HALF = 2.0
"""Half the length of a point's initial window, in strides."""


@dataclass(frozen=True)
class Points:
    """K points of all levels, for N queries; times are in frames.

    Attributes:
        centers: `(K,)`.
        strides: `(K,)`, 1, 2, 4, ...
        mask: `(N, K)` bool; a level has no more points than the query's video needs.
        scores: `(N, K)` logits of a moment at each point.
        bounds: `(N, K, 2)` its start and end.
        saliency: `(N, T)` relevance of each frame.
    """

    centers: torch.Tensor
    strides: torch.Tensor
    mask: torch.Tensor
    scores: torch.Tensor
    bounds: torch.Tensor
    saliency: torch.Tensor


def window_contrast(
    centered: torch.Tensor, counts: torch.Tensor, centers: torch.Tensor, strides: torch.Tensor
) -> torch.Tensor:
    """Return the contrast of each point's initial window: the mean of the curve inside, times the
    root of its length.

    Args:
        centered: `(N, T)` curves less their mean.
        counts: `(N,)` frames of the videos; windows end where videos do.
        centers: `(K,)`.
        strides: `(K,)`.

    Returns:
        `(N, K)`.
    """
    sums = functional.pad(centered.cumsum(1), (1, 0))
    end = counts[:, None].to(sums)
    low = torch.minimum((centers - HALF * strides).clamp_min(0)[None], end)
    high = torch.minimum((centers + HALF * strides)[None], end)
    return (_interpolate(sums, high) - _interpolate(sums, low)) / (high - low).clamp_min(
        1e-6
    ).sqrt()


def _interpolate(sums: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    below = positions.floor().long().clamp(0, sums.shape[1] - 2)
    first, second = sums.gather(1, below), sums.gather(1, below + 1)
    return first + (positions - below) * (second - first)


def assign_moments(
    points: Points, targets: torch.Tensor, target_mask: torch.Tensor, radius: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Assign a target moment to each point.

    A target is a candidate of a point if its center is at most `radius` strides away and it is half
    to twice as long as the point's initial window; at the finest level it may be shorter, at the
    coarsest level of its video longer. Of several candidates the nearest is assigned.

    Args:
        points: of N queries.
        targets: `(N, P, 2)` moments, in frames.
        target_mask: `(N, P)` bool, False for padding.
        radius: in strides.

    Returns:
        `(N, K)` int64, the target of each point; `(N, K)` bool, False for points without one.
    """
    center, length = targets.mean(-1), targets[..., 1] - targets[..., 0]
    distance = (points.centers[None, :, None] - center[:, None]).abs() / points.strides[
        None, :, None
    ]
    ratio = length[:, None] / (2 * HALF * points.strides[None, :, None])
    coarsest = (points.strides[None] * points.mask).amax(1)[:, None, None] == points.strides[
        None, :, None
    ]
    finest = (points.strides == 1)[None, :, None]
    fits = ((ratio >= 0.5) | finest) & ((ratio < 2) | coarsest) & (distance <= radius)
    fits &= points.mask[..., None] & target_mask[:, None]
    moment = distance.masked_fill(~fits, torch.inf).argmin(2)
    return moment, fits.any(2)


def ious(spans: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the IoU and the GIoU of pairs of spans `(M, 2)`, each `(M,)`.

    The GIoU is the IoU less the share of the enclosing span that neither covers.
    """
    overlap = (
        torch.minimum(spans[:, 1], targets[:, 1]) - torch.maximum(spans[:, 0], targets[:, 0])
    ).clamp_min(0)
    hull = (
        torch.maximum(spans[:, 1], targets[:, 1]) - torch.minimum(spans[:, 0], targets[:, 0])
    ).clamp_min(1e-6)
    union = (spans[:, 1] - spans[:, 0] + targets[:, 1] - targets[:, 0] - overlap).clamp_min(1e-6)
    iou = overlap / union
    return iou, iou - (hull - union).clamp_min(0) / hull


def listwise_loss(
    saliency: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return `(N,)`, the cross-entropy of a softmax over a video's frames with targets normalized
    to sum 1.

    Args:
        saliency: `(N, T)` logits.
        mask: `(N, T)` bool, True for real frames.
        targets: `(N, T)` from 0 up, at least one positive in each row; 0 at padding.
    """
    logs = saliency.masked_fill(~mask, -torch.inf).log_softmax(1).masked_fill(~mask, 0.0)
    return -(targets / targets.sum(1, keepdim=True) * logs).sum(1)
