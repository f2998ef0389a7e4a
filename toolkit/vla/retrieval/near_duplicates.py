"""When two moments of different videos show the same: a video that was encoded anew, cut, or put together with others."""

from __future__ import annotations

import numpy as np

from vla.features import FrameFeatures
from vla.spans import frames_in, iou

DUPLICATE_THRESHOLD = 0.97
"""Mean cosine of raw frames from which two moments are the same. Among 4,900 photographs of 700 things, CLIP ViT-B/32 finds 13
pairs so alike, 12 of them the same file twice; frames a second apart in one shot of a hand-held camera mostly are less."""
NEARLY_ALIKE = 0.9
"""Cosine of the mean frames of two moments below which they are not compared any closer."""
_COVERED = 0.5
_MOST_FRAMES = 64


def is_near_duplicate(
    one: FrameFeatures, one_span: np.ndarray, one_peak: float, other: FrameFeatures, span: np.ndarray, peak: float
) -> bool:
    """True if the two show the same in the same order: their frames agree, laid upon each other by time, start or peak.

    Args:
        one: raw features of a video.
        one_span: `(2,)` seconds, the moment in it.
        one_peak: when the frame is shown that matches best.
        other: raw features of another video.
        span: as `one_span`.
        peak: as `one_peak`.
    """
    first, last = frames_in(one.timestamps_seconds, one.duration_seconds, one_span.tolist())
    places = np.unique(np.linspace(first, last - 1, min(_MOST_FRAMES, last - first)).round().astype(int))
    offsets = dict.fromkeys([0.0, float(span[0] - one_span[0]), peak - one_peak])
    return any(_agree(one, places, one_span, other, span, ahead) for ahead in offsets)


def mean_of(video: FrameFeatures, span: np.ndarray) -> np.ndarray:
    """`(D,)` unit vector, the direction of the mean of the raw frames in a span; it is looked at before `is_near_duplicate`."""
    first, last = frames_in(video.timestamps_seconds, video.duration_seconds, span.tolist())
    found: np.ndarray = _unit(_unit(video.values[first:last]).mean(0, keepdims=True))[0]
    return found


def _agree(
    one: FrameFeatures, places: np.ndarray, one_span: np.ndarray, other: FrameFeatures, span: np.ndarray, ahead: float
) -> bool:
    """True if the frames at `places` of one agree with what the other shows `ahead` seconds later."""
    if iou([one_span + ahead], [span])[0, 0] < _COVERED:
        return False
    times = one.timestamps_seconds[places] + ahead
    # What the other one shows then; before its first frame and after its last there is nothing to compare.
    there = (times >= -1e-6) & (times < other.duration_seconds)
    if there.mean() < _COVERED:
        return False
    shown = np.searchsorted(other.timestamps_seconds, times[there] + 1e-6, side="right") - 1
    mine, its = _unit(one.values[places[there]]), _unit(other.values[shown.clip(0)])
    return bool((mine * its).sum(1).mean() >= DUPLICATE_THRESHOLD)


def _unit(values: np.ndarray) -> np.ndarray:
    rows = values.astype(np.float32)
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return found
