"""Conversion of seconds to fractional frame positions and back, and targets per frame.

A frame is shown until the next one, so a time lies some way through a frame.
"""

from __future__ import annotations

import numpy as np
import torch

from vla.batches.batch import AlignmentBatch
from vla.heads.base import LocalizationBatch

_MIN_SECONDS = 1e-6


def edges(batch: LocalizationBatch) -> torch.Tensor:
    """Return `(B, T + 1)` seconds, the start of each frame.

    The end of the video after the last real frame.
    """
    ends = batch.durations[:, None]
    starts = torch.where(batch.frame_mask, batch.seconds, ends)
    return torch.cat([starts, ends], 1).cummax(1).values


def to_seconds(positions: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Return the times of fractional frame positions.

    Positions before the first frame or after the last are extrapolated at the rate of that frame,
    so that they have a gradient.

    Args:
        positions: `(N, K)`, in frames.
        bounds: `(N, T + 1)` seconds, `edges` of the videos.

    Returns:
        `(N, K)` seconds.
    """
    frame = positions.detach().floor().long().clamp(0, bounds.shape[1] - 2)
    start, end = bounds.gather(1, frame), bounds.gather(1, frame + 1)
    return start + (positions - frame) * (end - start)


def to_frames(seconds: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Return the fractional frame positions `(N, K)` of times `(N, K)`.

    The inverse of `to_seconds` within the video.
    """
    seconds = torch.minimum(torch.maximum(seconds, bounds[:, :1]), bounds[:, -1:])
    frame = torch.searchsorted(bounds.contiguous(), seconds.contiguous(), right=True).sub(1)
    # The end of the video is the end of its last frame of positive duration, not of the padding
    # after it.
    last = (bounds < bounds[:, -1:]).sum(1, keepdim=True).sub(1).clamp_min(0)
    frame = torch.minimum(frame.clamp_min(0), last)
    start, end = bounds.gather(1, frame), bounds.gather(1, frame + 1)
    return frame + (seconds - start) / (end - start).clamp_min(_MIN_SECONDS)


def similarity_curves(batch: LocalizationBatch, rows: torch.Tensor) -> torch.Tensor:
    """Return `(N, T)` cosines of the texts `rows` with every frame of their videos.

    0 at padding.
    """
    videos = batch.video_of_text[rows]
    cosines = torch.einsum("ne,nte->nt", batch.texts[rows], batch.frames[videos])
    return cosines.masked_fill(~batch.frame_mask[videos], 0.0)


def unpad_curves(batch: LocalizationBatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each text its cosines `(T,)` with the frames of its video, and the frames' edges
    `(T + 1,)` in seconds.
    """
    videos = batch.video_of_text[batch.rows].tolist()
    counts = batch.frame_mask.sum(1).tolist()
    frames, texts = (array.float().cpu().numpy() for array in (batch.frames, batch.texts))
    bounds = edges(batch).double().cpu().numpy()
    # One product for each text: its rounding does not depend on the batch.
    return [
        (frames[video, : counts[video]] @ texts[text], bounds[video, : counts[video] + 1])
        for text, video in zip(batch.rows.tolist(), videos, strict=True)
    ]


def saliency_targets(batch: AlignmentBatch, rows: torch.Tensor) -> torch.Tensor:
    """Return `(N, T)` saliency targets of the queries `rows`, from 0 up.

    They are the annotators' ratings less the lowest; without ratings, 1 for frames of the moments
    and 0 elsewhere.
    """
    ratings = batch.saliency[rows]
    has_rating = ~ratings.isnan()
    lowest = ratings.masked_fill(~has_rating, 0.0).amin(1, keepdim=True)
    relative = (ratings - lowest).masked_fill(~has_rating, 0.0)
    inside = batch.inside[rows].to(relative.dtype)
    return torch.where((relative > 0).any(1, keepdim=True), relative, inside)


def chunk_rows(batch: LocalizationBatch, max_frames: int) -> list[torch.Tensor]:
    """Return the texts to localize in chunks of at most `max_frames` padded frames, or of one text,
    to bound memory.
    """
    size = max(1, max_frames // max(1, batch.frame_mask.shape[1]))
    return list(batch.rows.split(size)) if len(batch.rows) else []


def unpad_saliency(saliency: torch.Tensor, batch: LocalizationBatch) -> list[np.ndarray]:
    """Return the row `(T,)` float32 of `saliency` `(N, T)` of each text, without padding."""
    counts = batch.frame_mask.sum(1)[batch.video_of_text[batch.rows]].tolist()
    return [row[:n] for row, n in zip(saliency.float().cpu().numpy(), counts, strict=True)]
