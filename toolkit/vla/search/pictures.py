"""Pictures that are searched with: a file's pixels, upright, and what an encoder and a model make of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

import numpy as np

from vla.encoders.base import Encoder, TextEncoder
from vla.errors import MissingError, UsageError
from vla.features import FrameFeatures
from vla.model import AlignmentModel

_MOST_PIXELS = 200_000_000
_SHORTEST = 1 / 30


def pixels_of(path: Path) -> np.ndarray:
    """`(1, H, W, 3)` uint8 of a picture file, turned as it says; the first of an animation. Raises UsageError if it is none."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # Its own limit is lower and only warns; ours is checked before a pixel is read.
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    size = f"{picture.width} x {picture.height}"
                    raise UsageError(
                        f"the picture {path} has {size} pixels, more than {_MOST_PIXELS:,}: make it smaller"
                    )
                upright = ImageOps.exif_transpose(picture).convert("RGB")
                return np.array(upright, np.uint8)[None]
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"there is no picture {path}") from error
    except Exception as error:  # its readers raise all sorts of errors on damaged files
        raise UsageError(f"{path} is no picture that can be read ({error}): give a JPEG, PNG or WebP file") from error


def vector_of(pixels: np.ndarray, encoder: TextEncoder, model: AlignmentModel) -> np.ndarray:
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
