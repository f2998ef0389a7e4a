"""Base of text encoders: tokenization, batching and masks, for a whole model or a text tower."""

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
    """Base of text encoders; a subclass encodes token ids (`_encode_ids`).

    Args:
        tokenizer: a tokenizer of open_clip.

    Attributes:
        scale: the model's learned factor of cosines.
    """

    scale: float

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._context = int(self._tokenizer.context_length)
        # Rows are padded with the last token of an empty text: CLIP pads with 0, SigLIP with 1.
        self._padding = int(self._tokenizer([""])[0, -1])
        self._batcher = OomSafeBatcher()
        # Tokenizers cache words in a plain dict, and searches may run in several threads.
        self._lock = threading.Lock()

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return pooled and token features, both in the joint space."""
        if not texts:
            raise UsageError("no text to encode")
        with self._lock:
            ids = self._tokenizer(texts)
        lengths = self._lengths(ids)
        longest = int(lengths.max())
        # One call at a time: each uses all cores, so concurrent calls would only wait for each
        # other.
        with self._lock, torch.inference_mode():
            outputs = self._batcher.run(ids, lambda batch: self._encode_ids(batch, longest))
        pooled, tokens = (np.concatenate(batches) for batches in zip(*outputs, strict=True))
        mask = np.arange(longest)[None] < lengths[:, None]
        return TextFeatures(tuple(texts), pooled, tokens * mask[..., None], mask)

    def fits(self, text: str) -> bool:
        """Return whether `text` is encoded without truncation."""
        # A tokenizer makes at most one token per ASCII character, one or two at the ends, one in
        # front.
        if text.isascii() and len(text) + 3 <= self._context:
            return True
        with self._lock:
            long = self._tokenizer([text], context_length=max(4096, 2 * len(text) + 16))
        return int(self._lengths(long)[0]) <= self._context

    @abstractmethod
    def _encode_ids(self, ids: torch.Tensor, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pooled `(Q, D)` and token features `(Q, longest, D)`."""

    def _lengths(self, ids: torch.Tensor) -> np.ndarray:
        """Return the number of tokens of each row before its padding, at least 1."""
        is_token = (ids != self._padding).numpy()
        return np.where(is_token.any(1), is_token.shape[1] - is_token[:, ::-1].argmax(1), 1)
