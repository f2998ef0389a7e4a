"""Seconds and frames: a frame is on screen until the next one is, so a time lies some way through a frame."""

from __future__ import annotations

import numpy as np
import torch

from vla.batches.batch import AlignmentBatch
from vla.heads.base import LocalizationBatch

_SHORTEST = 1e-6


def edges(batch: LocalizationBatch) -> torch.Tensor:
    """`(B, T + 1)` seconds: when each frame begins; the end of the video after the last real frame, and ever after."""
    ends = batch.durations[:, None]
    begins = torch.where(batch.frame_mask, batch.seconds, ends)
    return torch.cat([begins, ends], 1).cummax(1).values


def to_seconds(places: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """`(N, K)` seconds of places `(N, K)` counted in frames; `bounds` `(N, T + 1)` are their `edges`.

    Places before the first frame or after the last go on at the pace of that frame, so that gradients do not end there.
    """
    frame = places.detach().floor().long().clamp(0, bounds.shape[1] - 2)
    begin, end = bounds.gather(1, frame), bounds.gather(1, frame + 1)
    return begin + (places - frame) * (end - begin)


def to_frames(seconds: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """`(N, K)` places, counted in frames, of times `(N, K)`: what `to_seconds` undoes within the video."""
    seconds = torch.minimum(torch.maximum(seconds, bounds[:, :1]), bounds[:, -1:])
    frame = torch.searchsorted(bounds.contiguous(), seconds.contiguous(), right=True).sub(1)
    # The end of the video is the end of its last frame with time on screen, not of the padding after it.
    last = (bounds < bounds[:, -1:]).sum(1, keepdim=True).sub(1).clamp_min(0)
    frame = torch.minimum(frame.clamp_min(0), last)
    begin, end = bounds.gather(1, frame), bounds.gather(1, frame + 1)
    return frame + (seconds - begin) / (end - begin).clamp_min(_SHORTEST)


def window_contrast(batch: LocalizationBatch, rows: torch.Tensor) -> torch.Tensor:
    """`(N, T)` cosines of the texts `rows` with every frame of their videos; 0 at padding."""
    videos = batch.video_of_text[rows]
    cosines = torch.einsum("ne,nte->nt", batch.texts[rows], batch.frames[videos])
    return cosines.masked_fill(~batch.frame_mask[videos], 0.0)


def saliency_targets(batch: AlignmentBatch, rows: torch.Tensor) -> torch.Tensor:
    """`(N, T)` not negative: how well each frame shows the queries `rows`, 0 outside of what was marked.

    What annotators gave where they did, above their lowest; frames of the moments count 1 where nobody rated any.
    """
    given = batch.saliency[rows]
    known = ~given.isnan()
    least = given.masked_fill(~known, 0.0).amin(1, keepdim=True)
    above = (given - least).masked_fill(~known, 0.0)
    inside = batch.inside[rows].to(above.dtype)
    return torch.where((above > 0).any(1, keepdim=True), above, inside)


def chunk_rows(batch: LocalizationBatch, most: int) -> list[torch.Tensor]:
    """The texts to localize in groups, each of at most `most` frames to look at, or one text: they bound the memory."""
    together = max(1, most // max(1, batch.frame_mask.shape[1]))
    return list(batch.rows.split(together)) if len(batch.rows) else []


def of_real_frames(saliency: torch.Tensor, batch: LocalizationBatch) -> list[np.ndarray]:
    """Of each text to localize `(T,)` float32, its row of `saliency` `(N, T)` as long as its video."""
    counts = batch.frame_mask.sum(1)[batch.video_of_text[batch.rows]].tolist()
    return [row[:n] for row, n in zip(saliency.float().cpu().numpy(), counts, strict=True)]
