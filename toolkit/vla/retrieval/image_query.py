"""Image queries: read an image file upright, and encode it."""

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

_MAX_PIXELS = 200_000_000
_FRAME_SECONDS = 1 / 30
_FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "PPM",
    "AVIF",
    "JPEG2000",
    "TGA",
    "DDS",
    "ICO",
    "QOI",
)
"""Formats that are read, by their names in Pillow. Others run programs (EPS), hold more than
images, or are obsolete."""


def load_image(path: Path) -> np.ndarray:
    """Return `(1, H, W, 3)` uint8 of an image file, rotated as its EXIF data says.

    The first frame of an animation.

    Transparent areas show the colours stored below them.

    Raises:
        UsageError: the file does not exist, is not a regular file, or is not an image of
            `_FORMATS`.
    """
    from PIL import Image, ImageOps

    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"image {path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):  # reading a FIFO would block
        raise UsageError(f"image {path} cannot be read: not a regular file")
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is lower and only warns; ours is checked before a pixel is read.
            warnings.simplefilter("ignore")
            Image.init()
            with Image.open(path, formats=[f for f in _FORMATS if f in Image.OPEN]) as image:
                if image.width * image.height > _MAX_PIXELS:
                    size = f"{image.width} x {image.height}"
                    raise UsageError(
                        f"image {path} is too large: {size} pixels, at most {_MAX_PIXELS:,} are "
                        f"accepted"
                    )
                return np.array(_to_uint8(ImageOps.exif_transpose(image)).convert("RGB"), np.uint8)[
                    None
                ]
    except UsageError:
        raise
    except Exception as error:  # readers of Pillow raise errors of any kind on damaged files
        raise UsageError(
            f"image {path} cannot be read ({error}): give a JPEG, PNG or WebP file"
        ) from error


def _to_uint8(image: Image.Image) -> Image.Image:
    """Return `image` with 16-bit or float greyscale scaled to 8 bits.

    Pillow would clip values above 255.
    """
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    highest = values.max(initial=0)
    ends = (1.0, 255.0) if image.mode == "F" else (65535.0,)
    white = next((end for end in ends if highest <= end), highest)
    return Image.fromarray(np.round(values.clip(0, white) * (255 / white)).astype(np.uint8))


def encode_image(pixels: np.ndarray, encoder: TextEncoder, model: AlignmentModel) -> np.ndarray:
    """Return the unit vector `(E,)` of `pixels` `(1, H, W, 3)` in the shared space, that of a video
    of this one frame.

    Raises:
        MissingError: the features were imported, so their image encoder is not available.
    """
    if not hasattr(encoder, "encode_frames"):
        raise MissingError(
            "the features were imported and have no image encoder: search by text instead"
        )
    image_encoder = cast(Encoder, encoder)
    values = image_encoder.encode_frames(image_encoder.prepare(pixels)).astype(np.float16)
    vector: np.ndarray = model.align_frames(
        FrameFeatures("image", values, np.zeros(1), _FRAME_SECONDS)
    )[0]
    return vector
