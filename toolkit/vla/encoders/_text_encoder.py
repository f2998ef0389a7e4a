"""What reads texts by tokens: the part that a whole model and its text tower alone have in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from vla.encoders._device import OomSafeBatcher
from vla.errors import UsageError
from vla.features import TextFeatures


class TextEncoderBase(ABC):
    """Encodes texts. What is derived from it says how (`_encode_ids`).

    Args:
        tokenizer: as open_clip has them.

    Attributes:
        scale: what cosines are multiplied with, as the model learned it.
    """

    scale: float

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._context = int(self._tokenizer.context_length)
        # The token that fills a row is whatever an empty text ends with; CLIP pads with 0, SigLIP with 1.
        self._padding = int(self._tokenizer([""])[0, -1])
        self._pieces = OomSafeBatcher()
        # Tokenizers cache words in a plain dict, and searches may come from several threads.
        self._lock = threading.Lock()

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Pooled and token features; each token is brought into the joint space by the text projection."""
        if not texts:
            raise UsageError("there is no text to encode")
        with self._lock:
            ids = self._tokenizer(texts)
        lengths = self._lengths(ids)
        longest = int(lengths.max())
        # One at a time: each computes on all cores, so threads together would only wait for each other.
        with self._lock, torch.inference_mode():
            made = self._pieces.run(ids, lambda some: self._encode_ids(some, longest))
        pooled, tokens = (np.concatenate(parts) for parts in zip(*made, strict=True))
        mask = np.arange(longest)[None] < lengths[:, None]
        return TextFeatures(tuple(texts), pooled, tokens * mask[..., None], mask)

    def fits(self, text: str) -> bool:
        """True if no token of `text` would be cut off."""
        # No tokenizer makes more tokens than there are ASCII characters; some add one or two at the ends, and one in front.
        if text.isascii() and len(text) + 3 <= self._context:
            return True
        with self._lock:
            long = self._tokenizer([text], context_length=max(4096, 2 * len(text) + 16))
        return int(self._lengths(long)[0]) <= self._context

    @abstractmethod
    def _encode_ids(self, ids: torch.Tensor, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Pooled `(Q, D)` and token features `(Q, longest, D)`."""

    def _lengths(self, ids: torch.Tensor) -> np.ndarray:
        """Tokens of each row up to the last that is not padding, at least 1."""
        real = (ids != self._padding).numpy()
        return np.where(real.any(1), real.shape[1] - real[:, ::-1].argmax(1), 1)
