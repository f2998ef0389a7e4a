"""Near-duplicate moments of different videos: re-encoded, trimmed or compiled videos."""

from __future__ import annotations

import numpy as np

from vla.features import FrameFeatures
from vla.spans import frames_in, iou

DUPLICATE_THRESHOLD = 0.97
"""Minimum mean cosine of the raw frames of near-duplicates. Among 4,900 photographs of 700 things,
CLIP ViT-B/32 finds 13 pairs above it, 12 of them the same file twice; frames one second apart in a
shot of a hand-held camera are mostly below."""
PREFILTER_THRESHOLD = 0.9
"""Minimum cosine of the mean frames of two moments for a comparison frame by frame."""
_MIN_OVERLAP = 0.5
_MAX_FRAMES = 64


def is_near_duplicate(
    one: FrameFeatures,
    one_span: np.ndarray,
    one_peak: float,
    other: FrameFeatures,
    span: np.ndarray,
    peak: float,
) -> bool:
    """Return whether two moments show the same frames in the same order, aligned by time, start or
    peak.

    Args:
        one: raw features of a video.
        one_span: `(2,)` seconds, the moment in it.
        one_peak: time of its best frame.
        other: raw features of another video.
        span: as `one_span`.
        peak: as `one_peak`.
    """
    first, last = frames_in(one.timestamps_seconds, one.duration_seconds, one_span.tolist())
    rows = np.unique(
        np.linspace(first, last - 1, min(_MAX_FRAMES, last - first)).round().astype(int)
    )
    offsets = dict.fromkeys([0.0, float(span[0] - one_span[0]), peak - one_peak])
    return any(_is_same(one, rows, one_span, other, span, offset) for offset in offsets)


def mean_of(video: FrameFeatures, span: np.ndarray) -> np.ndarray:
    """Return `(D,)`, the unit mean of the raw frames in a span.

    Compared before `is_near_duplicate`.
    """
    first, last = frames_in(video.timestamps_seconds, video.duration_seconds, span.tolist())
    mean: np.ndarray = _normalize(_normalize(video.values[first:last]).mean(0, keepdims=True))[0]
    return mean


def _is_same(
    one: FrameFeatures,
    rows: np.ndarray,
    one_span: np.ndarray,
    other: FrameFeatures,
    span: np.ndarray,
    offset: float,
) -> bool:
    """Return whether frames `rows` of one video match those of the other video `offset` seconds
    later.
    """
    if iou([one_span + offset], [span])[0, 0] < _MIN_OVERLAP:
        return False
    times = one.timestamps_seconds[rows] + offset
    # The other video has nothing to compare with before its start and after its end.
    is_inside = (times >= -1e-6) & (times < other.duration_seconds)
    if is_inside.mean() < _MIN_OVERLAP:
        return False
    other_rows = (
        np.searchsorted(other.timestamps_seconds, times[is_inside] + 1e-6, side="right") - 1
    )
    left, right = (
        _normalize(one.values[rows[is_inside]]),
        _normalize(other.values[other_rows.clip(0)]),
    )
    return bool((left * right).sum(1).mean() >= DUPLICATE_THRESHOLD)


def _normalize(values: np.ndarray) -> np.ndarray:
    rows = values.astype(np.float32)
    units: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return units
