"""Pictures that are searched with: a file's pixels, upright, and what an encoder and a model make of them."""

from __future__ import annotations

import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vla.encoders.base import Encoder, TextEncoder
from vla.errors import MissingError, UsageError
from vla.features import FrameFeatures
from vla.model import AlignmentModel

if TYPE_CHECKING:
    from PIL import Image

_MOST_PIXELS = 200_000_000
_SHORTEST = 1 / 30
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "DDS", "ICO", "QOI")
"""Pillow's names of the formats that are read. The others run programs (EPS), hold more than pictures, or are as good as dead."""


def load_image(path: Path) -> np.ndarray:
    """`(1, H, W, 3)` uint8 of a picture file, turned as it says; the first of an animation.

    Transparent parts show what is stored below them.

    Raises:
        UsageError: there is no such file, it is not a regular one, or it holds no picture of `_FORMATS`.
    """
    from PIL import Image, ImageOps

    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"there is no picture {path} ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):  # a FIFO would be waited for without end
        raise UsageError(f"{path} is no picture that can be read (not a regular file): give a JPEG, PNG or WebP file")
    try:
        with warnings.catch_warnings():
            # Its own limit is lower and only warns; ours is checked before a pixel is read.
            warnings.simplefilter("ignore")
            Image.init()
            with Image.open(path, formats=[f for f in _FORMATS if f in Image.OPEN]) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    size = f"{picture.width} x {picture.height}"
                    raise UsageError(
                        f"the picture {path} has {size} pixels, more than {_MOST_PIXELS:,}: make it smaller"
                    )
                return np.array(_eight_bits(ImageOps.exif_transpose(picture)).convert("RGB"), np.uint8)[None]
    except UsageError:
        raise
    except Exception as error:  # its readers raise all sorts of errors on damaged files
        raise UsageError(f"{path} is no picture that can be read ({error}): give a JPEG, PNG or WebP file") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """`picture` with grey of 16 bits, or of floats, scaled to 8 bits: Pillow would cut off what is above 255."""
    from PIL import Image

    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture).astype(np.float64)
    highest = values.max(initial=0)
    ends = (1.0, 255.0) if picture.mode == "F" else (65535.0,)
    most = next((end for end in ends if highest <= end), highest)
    return Image.fromarray(np.round(values.clip(0, most) * (255 / most)).astype(np.uint8))


def encode_image(pixels: np.ndarray, encoder: TextEncoder, model: AlignmentModel) -> np.ndarray:
    """`(E,)` unit vector of `pixels` `(1, H, W, 3)` in the shared space: that of a video which shows nothing else.

    Raises:
        MissingError: the encoder that made the features is not at hand, as with imported ones.
    """
    if not hasattr(encoder, "encode_frames"):
        raise MissingError(
            "pictures can be compared with features that were extracted here; those of this workspace were imported: ask in words"
        )
    seeing = cast(Encoder, encoder)
    values = seeing.encode_frames(seeing.prepare(pixels)).astype(np.float16)
    found: np.ndarray = model.align_frames(FrameFeatures("picture", values, np.zeros(1), _SHORTEST))[0]
    return found
