"""What every encoder is. It never normalises and never trains: the projector normalises, once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

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
