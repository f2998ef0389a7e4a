"""The segments of a video that an index holds: the whole of it, windows of several lengths, and what lies between its changes.

Windows see to it that something brief in a long shot is found, segments between changes that anything is which is shown from one
change to another, however long.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla.batches.corpus import SegmentGrid, sliding_windows
from vla.features import FrameFeatures
from vla.indexing.kts import content_segments
from vla.spans import Window, windows

CUT = "windows and changes 1"
"""What an index says of how it was cut; another way needs another name, so that no index holds segments of both."""

Segmenter = Callable[[FrameFeatures], SegmentGrid]


def segment_by_kts(video: FrameFeatures) -> SegmentGrid:
    """The whole video, then what lies between its changes, and unions of that, each range of frames once.

    They depend on the raw features and times alone, so a trained run has other vectors of the same segments.
    """
    return parse_segmenter(
        [_whole(video), *content_segments(video.values, video.timestamps_seconds, video.duration_seconds)]
    )


def windows_and_changes(video: FrameFeatures) -> SegmentGrid:
    """The windows, the whole video first, then what lies between changes and is none of them."""
    windows, changes = sliding_windows(video), segment_by_kts(video)
    first, last, spans = (np.concatenate(pair) for pair in zip(windows, changes, strict=True))
    _, once = np.unique(np.column_stack([first, last]), axis=0, return_index=True)
    once.sort()
    return first[once], last[once], spans[once]


def parse_segmenter(found: list[Window]) -> SegmentGrid:
    """`found` in its order, each range of frames once."""
    once = list({window[:2]: window for window in reversed(found)}.values())[::-1]
    return np.array([w[0] for w in once]), np.array([w[1] for w in once]), np.array([w[2:] for w in once], np.float64)


def _whole(video: FrameFeatures) -> Window:
    return windows(video.timestamps_seconds, video.duration_seconds, ())[0]
