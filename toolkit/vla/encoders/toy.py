"""Deterministic encoder without weights, for tests and dry runs."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from vla.encoders.base import EncoderIdentity
from vla.errors import UsageError
from vla.features import TextFeatures


class Encoder:
    """Frames become the mean colours of a 4x4 grid, texts the sum of hashed vectors of their words.

    It has no semantics, but is exact: the same input gives the same bits everywhere.

    Args:
        model: width of a feature, as text, such as `48`.
        pretrained: ignored.
        device: ignored.
        dtype: ignored.
    """

    context = 16
    max_concurrency = 2

    def __init__(
        self, model: str = "48", pretrained: str = "", device: str = "cpu", dtype: str = "fp32"
    ) -> None:
        if not model.isdigit() or int(model) < 1:
            raise UsageError(
                f"the toy encoder's model is its width, a number such as 48, not {model!r}"
            )
        self.dim = int(model)
        self.scale = 10.0
        self.identity = EncoderIdentity("toy", model, "none", "4x4 means", self.dim)
        self._mix = np.random.default_rng(0).standard_normal((48, self.dim)).astype(np.float32)

    def one_thread_per_call(self) -> AbstractContextManager[None]:
        """Return an empty context: numpy's products are too small to use several cores."""
        return nullcontext()

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Return the mean colour of each cell, `(T, 3, 4, 4)` uint8."""
        t, h, w, _ = pixels.shape
        rows, columns = np.arange(h) * 4 // h, np.arange(w) * 4 // w
        cells = np.zeros((t, 3, 4, 4), np.uint8)
        for i in range(4):
            for j in range(4):
                block = pixels[:, rows == i][:, :, columns == j]
                if block.size:
                    cells[:, :, i, j] = block.mean((1, 2))
        return cells

    def encode_frames(self, inputs: np.ndarray) -> np.ndarray:
        """Return features, `(T, D)` float32."""
        flat = inputs.reshape(len(inputs), 48).astype(np.float32) / 255 - 0.5
        # One row at a time: matrix products round differently for different batch sizes.
        return (
            np.stack([row @ self._mix for row in flat])
            if len(flat)
            else np.zeros((0, self.dim), np.float32)
        )

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return features with one token per word."""
        rows = [[_word(word, self.dim) for word in self._words(text)] for text in texts]
        longest = max((len(r) for r in rows), default=1)
        tokens = np.zeros((len(texts), longest, self.dim), np.float32)
        mask = np.zeros((len(texts), longest), bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = row
            mask[i, : len(row)] = True
        return TextFeatures(tuple(texts), tokens.sum(1), tokens, mask)

    def fits(self, text: str) -> bool:
        """Return whether `text` has at most 16 words."""
        return len(text.split()) <= self.context

    def _words(self, text: str) -> list[str]:
        return text.lower().split()[: self.context] or [""]


def _word(word: str, dim: int) -> np.ndarray:
    seed = int.from_bytes(
        hashlib.sha256(word.strip(".,;:!?").encode("utf-8", "surrogatepass")).digest()[:8], "little"
    )
    return np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
