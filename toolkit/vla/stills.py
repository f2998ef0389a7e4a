"""Stills: the exact frame of a video at a time, as JPEG, or a placeholder with the reason for none."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla.decoders import DEFAULT
from vla.decoders import registry as decoders
from vla.decoders.base import Decoder
from vla.errors import DecodeError

if TYPE_CHECKING:
    from PIL import Image, ImageFont

DEFAULT_WIDTH = 320
_QUALITY = 85
_PLACEHOLDER_ASPECT = 9 / 16
_BACKGROUND, _FOREGROUND = (58, 62, 70), (226, 229, 234)


@dataclass(frozen=True)
class Still:
    """A frame of a video as a picture.

    Attributes:
        jpeg: the picture; of a frame that cannot be shown, a grey one with the reason on it.
        seconds: time of the frame itself, which is the requested time or earlier; of a placeholder,
            the requested time.
        problem: reason for a placeholder, such as `the file is gone`; empty for a frame.
    """

    jpeg: bytes
    seconds: float
    problem: str = ""


def stills(
    path: Path,
    times_seconds: Sequence[float],
    max_width: int = DEFAULT_WIDTH,
    decoder: Decoder | None = None,
) -> list[Still]:
    """Return the frames that a player shows at each of the times, in their order.

    Frames are exact, never the nearest keyframe, and are reduced where they are decoded: by default
    in a child process, so a video that crashes a decoder costs its own stills only.

    Args:
        path: the video.
        times_seconds: in any order, counted from the start of the container.
        max_width: of a picture, in pixels; smaller videos are not enlarged.
        decoder: decoder to use; None opens the default one. With several videos, pass one decoder
            for all: its processes are used again.

    Returns:
        A still for each time. A video that is gone or cannot be decoded, and a time after its end,
        have a placeholder; nothing is raised for them.

    Raises:
        EnvironmentUnfitError: the decoder does not run on this machine.
        ResourceError: the system has no process, or too little memory for one.
    """
    if decoder is None:
        with closing(decoders.build(DEFAULT)) as default_decoder:
            return stills(path, times_seconds, max_width, default_decoder)
    if not path.is_file():
        return [_placeholder("the file is gone", t, max_width) for t in times_seconds]
    ascending = sorted(set(map(float, times_seconds)))
    by_time = dict(zip(ascending, _decode(path, ascending, max_width, decoder), strict=True))
    return [by_time[float(t)] for t in times_seconds]


def _decode(path: Path, times: list[float], max_width: int, decoder: Decoder) -> list[Still]:
    """Return the still at each of the ascending `times`; decode one by one where that fails for all."""
    try:
        with decoder.open(path) as reader:
            frames = reader.frames_at(np.array(times), max_width)
    except DecodeError as error:
        if len(times) > 1 and error.reason == "past-the-end":
            return [still for t in times for still in _decode(path, [t], max_width, decoder)]
        reason = str(error).removeprefix(f"{path.name}: ")
        return [_placeholder(reason, t, max_width) for t in times]
    return [
        Still(encode_jpeg(pixels), float(seconds))
        for pixels, seconds in zip(frames.pixels, frames.timestamps_seconds, strict=True)
    ]


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """Return `(H, W, 3)` uint8 RGB as a JPEG file."""
    from PIL import Image

    return _to_jpeg(Image.fromarray(pixels))


def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of placeholders and sheets, which comes with Pillow, `size` pixels high."""
    return _font(size)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _placeholder(reason: str, seconds: float, width: int) -> Still:
    """Return a grey picture with `reason` on it."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, max(1, round(width * _PLACEHOLDER_ASPECT))), _BACKGROUND)
    draw, font, margin = ImageDraw.Draw(image), load_font(max(9, width // 20)), max(2, width // 24)
    lines = wrap_text(reason, font, width - 2 * margin)
    draw.multiline_text((margin, margin), "\n".join(lines[:6]), _FOREGROUND, font)
    return Still(_to_jpeg(image), seconds, reason)


def wrap_text(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> list[str]:
    """Return `text` in lines of at most `width` pixels; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        candidate = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(candidate) <= width:
            lines[-1] = candidate
        else:
            lines.append(shorten_text(word, font, width))
    return lines


def shorten_text(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    """Return `text`, without its end if it is wider than `width` pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def _to_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
