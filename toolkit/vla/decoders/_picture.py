"""From libav's frames to pixels as a player shows them."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vla.decoders._tone_mapping import mapped, needs_mapping

_MAPPED = 720
"""Rows or columns, whichever are fewer, to which HDR pictures are reduced first: encoders see fewer, and mapping takes time."""


class RgbConverter:
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
        width, height = max(1, round(frame.width * self._aspect)), frame.height
        if needs_mapping(frame):
            scale = min(1.0, _MAPPED / min(width, height))
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            wide = self._convert.reformat(frame, width, height, format="rgb48le", threads=1).to_ndarray()
            pixels = mapped(wide, int(frame.color_trc), int(frame.color_primaries))
        else:
            pixels = self._rgb(frame, width, height)
        return turned(pixels, matrix_of(frame))

    def stack(self, pixels: list[np.ndarray]) -> np.ndarray:
        """`(T, H, W, 3)`, each brought to the largest of their sizes."""
        if not pixels:
            return np.zeros((0, 1, 1, 3), np.uint8)
        shape = max((p.shape for p in pixels), key=lambda s: s[0] * s[1])
        return np.stack([p if p.shape == shape else self._resized(p, shape[1], shape[0]) for p in pixels])

    def _resized(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:
        return self._rgb(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"), width, height)

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        return self._convert.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()


def matrix_of(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """How stored columns and rows (x, y) become shown ones, `(a, b, c, d)`: x' = a x + c y, y' = b x + d y; None if as stored.

    A matrix of which nothing can be made, such as all zeros, is none, as for FFmpeg.
    """
    if not frame.rotation and "DISPLAYMATRIX" not in frame.side_data:
        return None
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    return (a, b, c, d) if a * d != b * c else None


def turned(pixels: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """`pixels` `(H, W, 3)` by the multiple of 90 degrees, mirrored or not, that is nearest to `matrix`."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):  # columns become rows
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    pixels = pixels[:, ::-1] if across < 0 else pixels
    return np.ascontiguousarray(pixels[::-1] if down < 0 else pixels)
