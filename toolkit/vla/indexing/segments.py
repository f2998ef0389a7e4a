"""Segments of a video in an index.

The whole video, windows of several lengths, and segments between content changes.

Windows find short moments within a long shot; content segments (KTS) find moments of any length
that begin and end with a change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla.batches.corpus import SegmentGrid, sliding_windows
from vla.features import FrameFeatures
from vla.indexing.kts import content_segments
from vla.spans import Window, windows

SEGMENTATION = "windows and changes 1"
"""Name of the segmentation, stored in the index. A change of the method needs a new name, so that
no index mixes both."""

Segmenter = Callable[[FrameFeatures], SegmentGrid]


def segment_by_kts(video: FrameFeatures) -> SegmentGrid:
    """Return the whole video, then its content segments and unions of them, without duplicate
    ranges of frames.

    Segments depend on raw features and times only, so a trained run has other vectors for the same
    segments.
    """
    return to_grid(
        [
            _whole(video),
            *content_segments(video.values, video.timestamps_seconds, video.duration_seconds),
        ]
    )


def windows_and_changes(video: FrameFeatures) -> SegmentGrid:
    """Return the windows, the whole video first, then the content segments that are not windows."""
    windows, changes = sliding_windows(video), segment_by_kts(video)
    first, last, spans = (np.concatenate(pair) for pair in zip(windows, changes, strict=True))
    _, unique_rows = np.unique(np.column_stack([first, last]), axis=0, return_index=True)
    unique_rows.sort()
    return first[unique_rows], last[unique_rows], spans[unique_rows]


def to_grid(candidates: list[Window]) -> SegmentGrid:
    """Return `candidates` in order, without duplicate ranges of frames."""
    unique = list({window[:2]: window for window in reversed(candidates)}.values())[::-1]
    first, last = np.array([w[0] for w in unique]), np.array([w[1] for w in unique])
    return first, last, np.array([w[2:] for w in unique], np.float64)


def _whole(video: FrameFeatures) -> Window:
    return windows(video.timestamps_seconds, video.duration_seconds, ())[0]
