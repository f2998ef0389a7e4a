"""From libav's frames to pixels as a player shows them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter


class Upright:
    """Pixels of one stream's frames: `(H, W, 3)` uint8 RGB, rotation applied, pixels square.

    One converter for all frames, on one thread: a frame's own `to_ndarray` sets one up anew each time, with a thread for each
    core, which for small pictures takes many times as long as the conversion (128x128: 0.6 ms against 0.05), and other videos
    are decoded on the other cores.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        # 1 where the file says nothing, or nothing likely.
        self._aspect = Fraction(aspect) if aspect and Fraction(1, 8) <= Fraction(aspect) <= 8 else Fraction(1)
        self._convert = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        width = max(1, round(frame.width * self._aspect))
        pixels = self._rgb(frame, width, frame.height)
        quarter = round((frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, quarter)) if quarter else pixels

    def stack(self, pixels: list[np.ndarray], shape: tuple[int, ...] | None) -> np.ndarray:
        """`(T, H, W, 3)`, each of `shape`; a stream whose size changes is brought to its first size, as players do."""
        if shape is None or not pixels:
            return np.zeros((0, 1, 1, 3), np.uint8)
        return np.stack([p if p.shape == shape else self._resized(p, shape[1], shape[0]) for p in pixels])

    def _resized(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:
        return self._rgb(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"), width, height)

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        return self._convert.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()
