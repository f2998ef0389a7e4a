"""Interface of encoders. They never normalize and never train; the projector normalizes once."""

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
    """The fields of a FeatureSpec that the encoder determines; see there."""

    encoder: str
    model: str
    weights: str
    preprocessing: str
    dim: int

    def spec(self, sampling: str) -> FeatureSpec:
        """Return the spec of features of this encoder from frames chosen by `sampling`."""
        return FeatureSpec(
            self.encoder, self.model, self.weights, self.preprocessing, sampling, self.dim
        )


class TextEncoder(Protocol):
    """The text half of an encoder, enough for training and search once frames are cached."""

    scale: float
    """Factor of cosines that the encoder was trained with (CLIP's `logit_scale.exp()`)."""

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return pooled and token features of texts that fit, in order."""

    def fits(self, text: str) -> bool:
        """Return whether `text` is encoded without truncation; others are split before."""


class Encoder(TextEncoder, Protocol):
    """A frozen encoder.

    Its constructor takes `model`, `pretrained`, `device` and `dtype`, each with a default.

    A plug-in needs such a constructor, `identity`, `encode_frames` and `encode_text`. The rest is
    added by `with_defaults`: `prepare` keeps the size of frames, `fits` is True, `scale` is 20,
    `max_concurrency` is 1, `one_thread_per_call` does nothing.

    If its text half can be loaded separately, it also has `describe_text_tower()`, which returns a
    JSON object or None, and a static `load_text_tower(record, device, dtype)` that returns a
    `TextEncoder` with the same bits, or None.

    If its weights can be downloaded before it is built, it has a static
    `fetch_weights(model, pretrained, progress)`, which reports what it downloads.
    """

    identity: EncoderIdentity
    max_concurrency: int
    """Number of threads that may usefully call `encode_frames` at once."""

    def one_thread_per_call(self) -> AbstractContextManager[None]:
        """Return a context in which each call of `encode_frames` uses one core.

        `max_concurrency` threads call it at once within the context.
        """

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Resize `(T, H, W, 3)` uint8 frames to the encoder's input, `(T, 3, h, w)` uint8.

        It must be cheap and thread-safe.
        """

    def encode_frames(self, inputs: np.ndarray) -> np.ndarray:
        """Return features of frames from `prepare`, `(T, D)` float32, not normalized.

        They must not depend on the batch size (cosine > .99999).
        """


_REQUIRED_MEMBERS = ("identity", "encode_frames", "encode_text")


def with_defaults(encoder: Any, name: str) -> Any:
    """Add the defaults of `Encoder` for members that `encoder` lacks, and return it.

    Args:
        encoder: the encoder of a plug-in.
        name: name of the plug-in.

    Raises:
        EnvironmentUnfitError: a member without a default is missing.
    """
    missing = [member for member in _REQUIRED_MEMBERS if not hasattr(encoder, member)]
    if missing:
        raise EnvironmentUnfitError(f"the encoder plug-in {name!r} lacks {', '.join(missing)}")
    for member, value in _DEFAULTS.items():
        if not hasattr(encoder, member):
            setattr(encoder, member, MethodType(value, encoder) if callable(value) else value)
    return encoder


def _to_channels_first(encoder: Any, pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _fits(encoder: Any, text: str) -> bool:
    return True


def _no_context(encoder: Any) -> AbstractContextManager[None]:
    return nullcontext()


_DEFAULTS = {
    "prepare": _to_channels_first,
    "fits": _fits,
    "one_thread_per_call": _no_context,
    "scale": 20.0,
    "max_concurrency": 1,
}
