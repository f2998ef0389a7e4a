"""The segments of a video that an index holds: the whole of it, and what lies between its changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla.corpus import Cut
from vla.features import FrameFeatures
from vla.search.boundaries import content_segments
from vla.spans import Window, windows

CUT = "changes 1"
"""What an index says of how it was cut; another way needs another name, so that no index holds segments of both."""

Cutter = Callable[[FrameFeatures], Cut]


def cut_at_changes(video: FrameFeatures) -> Cut:
    """The whole video, then what lies between its changes, and unions of that, each range of frames once.

    They depend on the raw features and times alone, so a trained run has other vectors of the same segments.
    """
    return as_cut([_whole(video), *content_segments(video.values, video.timestamps_seconds, video.duration_seconds)])


def as_cut(found: list[Window]) -> Cut:
    """`found` in its order, each range of frames once."""
    once = list({window[:2]: window for window in reversed(found)}.values())[::-1]
    return np.array([w[0] for w in once]), np.array([w[1] for w in once]), np.array([w[2:] for w in once], np.float64)


def _whole(video: FrameFeatures) -> Window:
    return windows(video.timestamps_seconds, video.duration_seconds, ())[0]
