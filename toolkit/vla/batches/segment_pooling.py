"""Segment pooling: the candidate moments of a video, each with one vector of its frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla.batches.corpus import SegmentGrid, sliding_windows
from vla.features import FrameFeatures


@dataclass(frozen=True)
class Segments:
    """Candidate moments of one video, the whole video first.

    Attributes:
        vectors: `(N, E)` float32 unit vectors, directions of the means of the segments' frames.
        spans: `(N, 2)` seconds.
    """

    vectors: np.ndarray
    spans: np.ndarray


def pool_segments(
    frames: np.ndarray, features: FrameFeatures, grid: SegmentGrid | None = None
) -> Segments:
    """Return the pooled segments of a video.

    Args:
        frames: `(T, E)` aligned frames.
        features: of the video, for the times of its frames.
        grid: the segments; multi-scale sliding windows where None.
    """
    first, last, spans = grid or sliding_windows(features)
    # float64: differences of long prefix sums lose the digits of float32.
    sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, 0, dtype=np.float64)])
    means = sums[last] - sums[first]
    vectors = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    return Segments(vectors.astype(np.float32), spans)
