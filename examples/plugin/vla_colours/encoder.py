"""A minimal encoder: mean colours of frames, and colours named in texts."""

import numpy as np

from vla.encoders.base import EncoderIdentity
from vla.features import TextFeatures

COLOURS = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "white": (1, 1, 1),
    "black": (0, 0, 0),
}


class Encoder:
    """Embeds frames by their mean colour, and texts by the sum of the colours that they name.

    `identity` identifies the features: change `weights` whenever the same frame would give other
    values.
    """

    def __init__(
        self, model: str = "rgb", pretrained: str = "", device: str = "cpu", dtype: str = "fp32"
    ) -> None:
        self.identity = EncoderIdentity("colours", model, "none", "mean colour", dim=3)

    def encode_frames(self, inputs: np.ndarray) -> np.ndarray:
        """Return the mean colours `(T, 3)` float32 of frames `(T, 3, h, w)` uint8."""
        return inputs.astype(np.float32).mean((2, 3)) / 255 - 0.5

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return one vector for each text, and one for each of its words."""
        words = [text.lower().split() or [""] for text in texts]
        tokens = np.zeros((len(texts), max(map(len, words)), 3), np.float32)
        mask = np.zeros(tokens.shape[:2], bool)
        for i, row in enumerate(words):
            mask[i, : len(row)] = True
            tokens[i, : len(row)] = [
                np.subtract(COLOURS[w], 0.5) if w in COLOURS else (0, 0, 0) for w in row
            ]
        pooled = tokens.sum(1)
        pooled[~pooled.any(1)] = 0.01  # no colour in the text: a zero vector has no direction
        return TextFeatures(tuple(texts), pooled, tokens, mask)
