"""An encoder that knows colours by name: all that `vla` needs of one, and nothing more."""

import numpy as np

from vla.encoders.base import EncoderIdentity
from vla.features import TextFeatures

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1), "black": (0, 0, 0)}


class Encoder:
    """The mean colour of a frame, and the mean of the colours that a text names.

    `identity` tells features of this encoder from all others: change `weights` whenever the same frame would give other numbers.
    """

    def __init__(self, model: str = "rgb", pretrained: str = "", device: str = "cpu", dtype: str = "fp32") -> None:
        self.identity = EncoderIdentity("colours", model, "none", "mean colour", dim=3)

    def encode_frames(self, prepared: np.ndarray) -> np.ndarray:
        """`(T, 3, h, w)` uint8 to `(T, 3)` float32."""
        return prepared.astype(np.float32).mean((2, 3)) / 255 - 0.5

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """One vector for each text, and one for each word of it."""
        words = [text.lower().split() or [""] for text in texts]
        tokens = np.zeros((len(texts), max(map(len, words)), 3), np.float32)
        mask = np.zeros(tokens.shape[:2], bool)
        for i, row in enumerate(words):
            mask[i, : len(row)] = True
            tokens[i, : len(row)] = [np.subtract(COLOURS[w], 0.5) if w in COLOURS else (0, 0, 0) for w in row]
        pooled = tokens.sum(1)
        pooled[~pooled.any(1)] = 0.01  # a text without a colour: a vector of zeros has no direction
        return TextFeatures(tuple(texts), pooled, tokens, mask)
