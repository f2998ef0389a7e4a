"""Conversion of libav frames to RGB pixels as a player shows them."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vla.decoders._tone_mapping import needs_mapping, tone_map

_HDR_SIDE = 720
"""Shorter side in pixels to which HDR pictures are reduced: tone mapping is slow."""


class RgbConverter:
    """Converter of one stream's frames to `(H, W, 3)` uint8 RGB, upright, with square pixels.

    One converter serves all frames, on one thread. A frame's own `to_ndarray` creates a converter
    each time, with a thread per core; for small pictures that takes many times as long as the
    conversion (128x128: 0.6 ms against 0.05 ms), and the other cores decode other videos.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        # 1 if the file declares no aspect ratio, or an implausible one.
        self._aspect = (
            Fraction(aspect) if aspect and Fraction(1, 8) <= Fraction(aspect) <= 8 else Fraction(1)
        )
        self._convert = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = max(1, round(frame.width * self._aspect)), frame.height
        if needs_mapping(frame):
            scale = min(1.0, _HDR_SIDE / min(width, height))
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            rgb48 = self._convert.reformat(
                frame, width, height, format="rgb48le", threads=1
            ).to_ndarray()
            pixels = tone_map(rgb48, int(frame.color_trc), int(frame.color_primaries))
        else:
            pixels = self._rgb(frame, width, height)
        return rotate(pixels, display_matrix(frame))

    def stack(self, pixels: list[np.ndarray]) -> np.ndarray:
        """Return the pictures as `(T, H, W, 3)`, each resized to the largest of their sizes."""
        if not pixels:
            return np.zeros((0, 1, 1, 3), np.uint8)
        shape = max((p.shape for p in pixels), key=lambda s: s[0] * s[1])
        return np.stack(
            [p if p.shape == shape else self._resize(p, shape[1], shape[0]) for p in pixels]
        )

    def reduce(self, pixels: np.ndarray, max_width: int | None) -> np.ndarray:
        """Return `pixels` with at most `max_width` columns, in the same aspect ratio."""
        height, width = pixels.shape[:2]
        if max_width is None or width <= max_width:
            return pixels
        return self._resize(pixels, max_width, max(1, round(height * max_width / width)))

    def _resize(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:
        return self._rgb(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"), width, height
        )

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        return self._convert.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """Return the matrix `(a, b, c, d)` from stored to shown columns and rows; None for identity.

    A stored position (x, y) is shown at x' = a x + c y, y' = b x + d y. A singular matrix, such as
    all zeros, is ignored, as FFmpeg does.
    """
    if not frame.rotation and "DISPLAYMATRIX" not in frame.side_data:
        return None
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    return (a, b, c, d) if a * d != b * c else None


def rotate(pixels: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """Rotate `(H, W, 3)` pixels by the right angle, and mirror them, closest to `matrix`."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):  # columns become rows
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    pixels = pixels[:, ::-1] if across < 0 else pixels
    return np.ascontiguousarray(pixels[::-1] if down < 0 else pixels)
