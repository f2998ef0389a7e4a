"""ConSE: pictures as mixtures of class names, from an ImageNet classifier and a sentence encoder.

Norouzi et al. 2013, "Zero-shot learning by convex combination of semantic embeddings". All weights
come in packages from the Python package index.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vla.encoders import _package_files as files
from vla.encoders._device import (
    OomSafeBatcher,
    choose_device,
    choose_dtype,
    one_core_per_call,
    useful_threads,
)
from vla.encoders._preprocess import Preprocess
from vla.encoders._presets import PRESETS
from vla.encoders._sentence_encoder import SentenceEncoder, file_state
from vla.encoders.base import EncoderIdentity, TextEncoder
from vla.errors import UsageError
from vla.features import TextFeatures

PROMPT = "a photo of a {}"
NUM_CLASSES = 10
"""Classes in a mixture; 20 and 1,000 find as much on real videos, within the noise."""
_MEAN, _STD = 127, 128
"""Of levels of colour, as the classifier was trained."""
_BATCH = 4
"""Frames that a call computes at once on a CPU: with more, layers leave the cache, and the system
takes their memory back after each."""


@dataclass(frozen=True)
class _Size:
    """Input size of a classifier and the shorter side before the crop, in pixels."""

    crop: int
    side: int


_SIZES = {"lite0": _Size(224, 256), "lite1": _Size(240, 272), "lite2": _Size(260, 292)}


class Encoder:
    """A frozen EfficientNet-Lite whose ten likeliest classes weigh the vectors of their names.

    The vectors are of all-MiniLM-L6-v2, which also encodes texts.

    Args:
        model: `lite0`, `lite1` or `lite2`, or the preset `offline`, which is `lite2`.
        pretrained: must be empty; the packages are the weights.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: precision of the classifier: `auto`, `fp32`, `bf16` or `fp16`. Everything else is
            computed in float32.

    Raises:
        EnvironmentUnfitError: a package or the device is missing, or a file is not the expected
            one.
        UsageError: there is no such model.
    """

    def __init__(
        self,
        model: str = "lite2",
        pretrained: str = "",
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        name = _resolve(model, pretrained)
        file = files.CLASSIFIER_WEIGHTS[name]
        path = file.verify()
        self._texts = SentenceEncoder(device)
        self._device = choose_device(device)
        self._dtype, _ = choose_dtype(dtype, self._device)
        self._names = class_names()
        self._preprocess = _preprocess(_SIZES[name])
        from vla.encoders._efficientnet import load_classifier

        self._network = load_classifier(path, name, _SIZES[name].crop, self._dtype).to(self._device)
        self.scale = self._texts.scale
        self.identity = EncoderIdentity(
            "conse", name, _digest(file, self._names), str(self._preprocess), self._texts.dim
        )
        self._batcher = OomSafeBatcher(_BATCH if self._device.type == "cpu" else None)
        self._lock = threading.Lock()
        self._class_vectors: torch.Tensor | None = None

    @property
    def max_concurrency(self) -> int:
        """See `useful_threads`."""
        return useful_threads(self._device)

    def one_thread_per_call(self) -> AbstractContextManager[None]:
        """See `one_core_per_call`."""
        return one_core_per_call(self._device)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Return `(T, 3, h, w)` uint8."""
        return self._preprocess(pixels)

    def encode_frames(self, inputs: np.ndarray) -> np.ndarray:
        """Return `(T, D)` float32, not normalized: short where the classifier is unsure."""
        if not len(inputs):
            return np.zeros((0, self.identity.dim), np.float32)
        vectors = self._vectors_of_classes()
        with torch.inference_mode():
            logits = torch.cat(self._batcher.run(torch.from_numpy(inputs), self._classify))
            return mix_classes(logits, vectors).numpy()

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return the mean of token states, and the token states."""
        return self._texts.encode_text(texts)

    def fits(self, text: str) -> bool:
        """Return whether `text` has at most 256 tokens."""
        return self._texts.fits(text)

    def describe_text_tower(self) -> dict[str, Any]:
        """Return the record for `load_text_tower`."""
        return {"weights": self.identity.weights, "looks": file_state()}

    @staticmethod
    def load_text_tower(record: Mapping[str, Any], device: str, dtype: str) -> TextEncoder | None:
        """Return the sentence encoder; None if the file of its weights has changed."""
        looks = record.get("looks")
        return SentenceEncoder(device, looks) if looks == file_state() else None

    def _classify(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits `(T, 1000)` of uint8 frames, float32 on the CPU."""
        images = pixels.to(self._device).to(torch.float32, memory_format=torch.channels_last)
        logits: torch.Tensor = self._network(images.sub_(_MEAN).div_(_STD))
        return logits.float().cpu()

    def _vectors_of_classes(self) -> torch.Tensor:
        """Return unit vectors of the class names, `(1000, D)`, computed at the first call."""
        # One thread gives the same bits wherever the first call comes from.
        with self._lock, self.one_thread_per_call():
            if self._class_vectors is None:
                names = [PROMPT.format(name) for name in self._names]
                pooled = torch.from_numpy(self._texts.encode_text(names).pooled)
                self._class_vectors = functional.normalize(pooled, dim=1)
            return self._class_vectors


def mix_classes(logits: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return `(T, D)`: the sum of the vectors of the likeliest classes, weighted by probability.

    Args:
        logits: `(T, C)`.
        vectors: unit vectors of the classes, `(C, D)`.
    """
    top = logits.softmax(1).topk(min(NUM_CLASSES, logits.shape[1]), dim=1)
    return torch.einsum("tk,tkd->td", top.values, vectors[top.indices])


def require_packages() -> None:
    """Raise EnvironmentUnfitError if a package of the preset `offline` is not installed."""
    for file in (files.CLASSIFIER_WEIGHTS["lite2"], files.SENTENCE_WEIGHTS):
        file.find()


def _resolve(model: str, pretrained: str) -> str:
    preset = PRESETS.get(model)
    name = preset.model if preset and preset.encoder == "conse" else model
    if name not in _SIZES:
        raise UsageError(f"the encoder 'conse' has the models {', '.join(_SIZES)}, not {model!r}")
    if pretrained:
        raise UsageError(
            f"the weights of {model!r} come with its packages; there are none called {pretrained!r}"
        )
    return name


def _preprocess(size: _Size) -> Preprocess:
    return Preprocess(
        {
            "size": size.crop,
            "side": size.side,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "mean": (_MEAN / 255,) * 3,
            "std": (_STD / 255,) * 3,
        }
    )


def class_names() -> list[str]:
    """Return the names of the classes that pictures are mixtures of."""
    from vla.encoders._open_clip_import import import_open_clip

    return list(import_open_clip().IMAGENET_CLASSNAMES)


def _digest(file: files.PackageFile, names: list[str]) -> str:
    """Return 16 hexadecimal digits of the sha256 over all that decides a feature."""
    parts = [file.sha256, files.SENTENCE_WEIGHTS.sha256, files.SENTENCE_TOKENIZER.sha256]
    parts += [PROMPT, str(NUM_CLASSES), *names]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
