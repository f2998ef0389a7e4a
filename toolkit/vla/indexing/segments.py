"""Segments of a video in an index: the whole video, windows of several lengths, and frames.

Frames find what is seen once, windows average over noise, and the whole video tells its topic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla.batches.corpus import SegmentGrid
from vla.features import FrameFeatures
from vla.spans import Window, windows

SEGMENTATION = "windows and frames 1"
"""Name of the segmentation, stored in the index. A change of the method needs a new name, so that
no index mixes both."""

Segmenter = Callable[[FrameFeatures], SegmentGrid]

_WINDOW_SECONDS = (4, 8, 16, 32, 64, 128)
_FRAME_SECONDS = 0.5
"""Duration of the shortest segments: single frames at the default of 2 frames a second, means of
several at higher rates, so that the index does not grow with the rate."""


def windows_and_frames(video: FrameFeatures) -> SegmentGrid:
    """Return the whole video first, then windows of 4 to 128 s that overlap by half, then frames."""
    times, duration = video.timestamps_seconds, video.duration_seconds
    overlapping = windows(times, duration, _WINDOW_SECONDS)
    frames = windows(times, duration, (_FRAME_SECONDS,), overlap=0)
    return _to_grid([*overlapping, *frames[1:]])


def _to_grid(candidates: list[Window]) -> SegmentGrid:
    """Return `candidates` in order, without duplicate ranges of frames."""
    unique = list({window[:2]: window for window in reversed(candidates)}.values())[::-1]
    first, last = np.array([w[0] for w in unique]), np.array([w[1] for w in unique])
    return first, last, np.array([w[2:] for w in unique], np.float64)
