"""What every encoder is. It never normalises and never trains: the projector normalises, once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any, Protocol

import numpy as np

from vla.errors import EnvironmentUnfitError
from vla.features import FeatureSpec, TextFeatures


@dataclass(frozen=True)
class EncoderIdentity:
    """The part of a FeatureSpec that the encoder decides; see there."""

    encoder: str
    model: str
    weights: str
    preprocessing: str
    dim: int

    def spec(self, sampling: str) -> FeatureSpec:
        """The full spec of features made with this encoder from frames chosen by `sampling`."""
        return FeatureSpec(self.encoder, self.model, self.weights, self.preprocessing, sampling, self.dim)


class TextEncoder(Protocol):
    """The half of an encoder that training and searching need once the frames are cached."""

    scale: float
    """What the encoder was trained to multiply cosines by (CLIP's `logit_scale.exp()`)."""

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Pooled and token features of texts that fit; order kept."""

    def fits(self, text: str) -> bool:
        """True if the encoder reads the whole of `text`; longer texts are split before they come here."""


class Encoder(TextEncoder, Protocol):
    """A frozen encoder. Its constructor takes `model`, `pretrained`, `device` and `dtype`, each with a default.

    A plug-in needs such a constructor, `identity`, `encode_frames` and `encode_text`. What else it lacks, `completed` adds:
    `prepare` leaves frames as large as they are, `fits` is True, `scale` is 20, `lanes` is 1, `side_by_side` does nothing.

    One whose text half can be loaded by itself also has `remembered()`, which gives a JSON object or None, and a static
    `texts_alone(record, device, dtype)`, which makes a `TextEncoder` of that, with the same bits, or gives None.
    """

    identity: EncoderIdentity
    lanes: int
    """How many threads may usefully call `encode_frames` at once."""

    def side_by_side(self) -> AbstractContextManager[None]:
        """While this is held, `encode_frames` is called by `lanes` threads, and each call is to use one core's worth."""

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """`(T, H, W, 3)` uint8 frames brought to the encoder's input size: `(T, 3, h, w)` uint8. Cheap, thread-safe."""

    def encode_frames(self, prepared: np.ndarray) -> np.ndarray:
        """Features of prepared frames: `(T, D)` float32, not normalised, the same for any batch size (cosine > .99999)."""


_NEEDED = ("identity", "encode_frames", "encode_text")


def completed(encoder: Any, name: str) -> Any:
    """`encoder` with the defaults of `Encoder` for what it does not have itself.

    Raises:
        EnvironmentUnfitError: it lacks what has no default; `name` is the plug-in's.
    """
    lacking = [member for member in _NEEDED if not hasattr(encoder, member)]
    if lacking:
        raise EnvironmentUnfitError(f"the encoder plug-in {name!r} is not complete: it has no {', no '.join(lacking)}")
    for member, value in _DEFAULTS.items():
        if not hasattr(encoder, member):
            setattr(encoder, member, MethodType(value, encoder) if callable(value) else value)
    return encoder


def _as_large_as_it_is(encoder: Any, pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _fits(encoder: Any, text: str) -> bool:
    return True


def _alone(encoder: Any) -> AbstractContextManager[None]:
    return nullcontext()


_DEFAULTS = {"prepare": _as_large_as_it_is, "fits": _fits, "side_by_side": _alone, "scale": 20.0, "lanes": 1}
