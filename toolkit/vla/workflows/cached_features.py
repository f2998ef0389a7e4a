"""Cached features of a workspace as arrays with times."""

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
    """Features of one video.

    Attributes:
        video_id: name of the video in its workspace.
        values: `(T, D)` float32, one row per sampled frame, not normalized.
        times_seconds: `(T,)` float64, presentation time of each frame; 0 is the first displayed
            frame.
        duration_seconds: duration of the video.
    """

    video_id: str
    values: np.ndarray
    times_seconds: np.ndarray
    duration_seconds: float

    def __repr__(self) -> str:
        t, d = self.values.shape
        return f"VideoFeatures({self.video_id!r}, {t} x {d}, {self.duration_seconds:.2f} s)"


def features_of(workspace: Workspace, video: Path | str) -> VideoFeatures:
    """Return the features of a video, given its name or path; raises MissingError if there are
    none.
    """
    cache = _cache(workspace)
    name = workspace.resolve_video(video, cache.receipts)
    if name not in cache.video_ids():
        raise MissingError(
            f"{video} has no features in {workspace.root}",
            hint=Hint("extract_video", video=str(video)),
        )
    features = cache.frames(name)
    return VideoFeatures(
        name,
        features.values.astype(np.float32),
        features.timestamps_seconds,
        features.duration_seconds,
    )


def names_of(workspace: Workspace) -> list[str]:
    """Return the names of all videos with features, sorted."""
    return sorted(_cache(workspace).video_ids())


def _cache(workspace: Workspace) -> FeatureCache:
    return active_cache(workspace.caches)
