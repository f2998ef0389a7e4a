"""Cached features of a workspace for people: arrays with times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.cache.store import FeatureCache, active_cache
from vla.errors import MissingError
from vla.hints import Hint
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class VideoFeatures:
    """The features of one video.

    Attributes:
        video_id: the video's name in its workspace.
        values: `(T, D)` float32, one row for each sampled frame, not normalised.
        times_seconds: `(T,)` float64, when each frame is shown; 0 is the first displayed frame.
        duration_seconds: length of the video.
    """

    video_id: str
    values: np.ndarray
    times_seconds: np.ndarray
    duration_seconds: float

    def __repr__(self) -> str:
        t, d = self.values.shape
        return f"VideoFeatures({self.video_id!r}, {t} x {d}, {self.duration_seconds:.2f} s)"


def features_of(place: Workspace, video: Path | str) -> VideoFeatures:
    """The features of `video`, a name or a path; raises MissingError where there are none."""
    cache = _cache(place)
    name = place.video_named(video, cache.receipts)
    if name not in cache.video_ids():
        raise MissingError(f"{video} has no features in {place.root}", hint=Hint("extract_video", video=str(video)))
    found = cache.frames(name)
    return VideoFeatures(name, found.values.astype(np.float32), found.timestamps_seconds, found.duration_seconds)


def names_of(place: Workspace) -> list[str]:
    """Names of all videos with features, in order."""
    return sorted(_cache(place).video_ids())


def _cache(place: Workspace) -> FeatureCache:
    return active_cache(place.caches)
