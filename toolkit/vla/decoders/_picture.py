"""From libav's frames to pixels as a player shows them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np


def aspect_of(stream: av.VideoStream) -> Fraction:
    """Width of a pixel over its height; 1 where the file says nothing, or nothing likely."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 8) <= Fraction(aspect) <= 8 else Fraction(1)


def upright(frame: av.VideoFrame, aspect: Fraction) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB: rotation applied, pixels square."""
    width = max(1, round(frame.width * aspect))
    pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    quarter = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter)) if quarter else pixels


def stack(pixels: list[np.ndarray], shape: tuple[int, ...] | None) -> np.ndarray:
    """`(T, H, W, 3)`, each of `shape`; a stream whose size changes is brought to its first size, as players do."""
    if shape is None or not pixels:
        return np.zeros((0, 1, 1, 3), np.uint8)
    return np.stack([p if p.shape == shape else _resized(p, shape[1], shape[0]) for p in pixels])


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return frame.to_ndarray(format="rgb24", width=width, height=height)
