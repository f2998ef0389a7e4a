"""all-MiniLM-L6-v2, a sentence encoder whose weights come in a package: the text half of ConSE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.encoders._bert import Bert
from vla.encoders._device import choose_device
from vla.encoders._package_files import EXTRA, SENTENCE_TOKENIZER, SENTENCE_WEIGHTS
from vla.encoders._text_encoder import TextEncoderBase
from vla.errors import EnvironmentUnfitError

MAX_TOKENS = 256
"""Longest text that the model was trained with; sentence-transformers truncates there, too."""
SCALE = 20.0
"""Factor of cosines; the default of the ranking losses of sentence-transformers."""
_BATCH = 32


class SentenceEncoder(TextEncoderBase):
    """Mean of the token states of MiniLM (Wang et al. 2020), in float32 on every device.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        known_state: `file_state()` after the digest of the weights was compared; if the file is
            still the same, the digest is not computed again.

    Attributes:
        dim: width of a feature.

    Raises:
        EnvironmentUnfitError: a package is missing, or a file is not the expected one.
    """

    def __init__(self, device: str, known_state: list[int] | None = None) -> None:
        is_known = known_state is not None and known_state == file_state()
        path = SENTENCE_WEIGHTS.find() if is_known else SENTENCE_WEIGHTS.verify()
        super().__init__(WordPieces(SENTENCE_TOKENIZER.verify()))
        from safetensors.torch import load_file

        self._device = choose_device(device)
        self._bert = Bert(load_file(path), self._device)
        self.dim = self._bert.width
        self.scale = SCALE

    def _encode_ids(self, ids: torch.Tensor, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pooled `(Q, D)` and token features `(Q, longest, D)`."""
        lengths = torch.from_numpy(self._lengths(ids))
        pooled = torch.zeros(len(ids), self.dim)
        tokens = torch.zeros(len(ids), longest, self.dim)
        # Texts of similar length share a batch, so that little padding is computed.
        for rows in lengths.argsort(stable=True).split(_BATCH):
            length = int(lengths[rows].max())
            mask = torch.arange(length)[None] < lengths[rows, None]
            states = self._bert(ids[rows, :length].to(self._device), mask.to(self._device)).cpu()
            states = states * mask[..., None]
            pooled[rows] = states.sum(1) / lengths[rows, None]
            tokens[rows, :length] = states
        return pooled.numpy(), tokens.numpy()


class WordPieces:
    """BERT's tokenizer as a tokenizer of open_clip's kind: texts to rows of ids of one length.

    Args:
        path: a `tokenizer.json` whose padding has the id 0.

    Raises:
        EnvironmentUnfitError: the package `tokenizers` is not installed.
    """

    context_length = MAX_TOKENS

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EnvironmentUnfitError(
                f"the encoder 'conse' needs the package 'tokenizers', which cannot be imported "
                f"({str(error).partition(chr(10))[0]}): {EXTRA}"
            ) from error
        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __call__(self, texts: list[str], context_length: int = MAX_TOKENS) -> torch.Tensor:
        """Return ids `(Q, context_length)`, padded with 0; the last id of a cut text is its end."""
        ids = torch.zeros(len(texts), context_length, dtype=torch.int64)
        for row, text in enumerate(texts):
            # Lone surrogates, as names of files may have, are no text for the library.
            tokens = self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
            if len(tokens) > context_length:
                tokens = [*tokens[: context_length - 1], tokens[-1]]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids


def file_state() -> list[int]:
    """Return the size and modification time of the weights.

    Raises:
        EnvironmentUnfitError: they are not installed.
    """
    status = SENTENCE_WEIGHTS.find().stat()
    return [status.st_size, status.st_mtime_ns]
