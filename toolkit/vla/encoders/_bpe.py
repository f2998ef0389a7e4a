"""CLIP's byte-pair tokenizer without open_clip around it: a query is cut before any of that could have been imported.

The same tokens as open_clip's `SimpleTokenizer` with its default cleaning (Radford et al. 2021). What mends broken text, ftfy, is
loaded for text that could need it: printable ASCII without `&` is its own mended form.
"""

from __future__ import annotations

import gzip
import html
import io
import threading
import zlib
from itertools import pairwise
from pathlib import Path

import regex
import torch

from vla.errors import UsageError
from vla.inputs import read_regular

_WORDS = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_MERGES = 49152 - 256 - 2
_SPECIAL = ("<start_of_text>", "<end_of_text>")
_MOST_PACKED, _MOST_TEXT = 8 << 20, 32 << 20  # CLIP's own: 1.4 MB, unpacked 3.2 MB


def vocabulary_text(path: Path) -> str:
    """Text of a gzipped vocabulary, at most 32 MiB of it.

    Raises:
        UsageError: the file is missing, not regular, too large, unpacks to too much, or is not gzipped UTF-8.
    """
    packed = read_regular(path, _MOST_PACKED, what="vocabulary")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = file.read(_MOST_TEXT + 1)
        if len(content) > _MOST_TEXT:
            raise UsageError(f"the vocabulary {path} unpacks to more than {_MOST_TEXT} bytes")
        return content.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"the vocabulary {path} is not gzipped UTF-8 text: {error}") from error


class Tokenizer:
    """Cuts texts into tokens of a vocabulary; threads may share it.

    Args:
        vocabulary: gzipped file of merges, one a line after the first.
        context_length: tokens of a row.
    """

    def __init__(self, vocabulary: Path, context_length: int) -> None:
        self.context_length = context_length
        lines = vocabulary_text(vocabulary).split("\n")[1 : _MERGES + 1]
        letters = list(_letters().values())
        joined = "\n".join(lines).replace(" ", "").split("\n") if lines else []
        every = [*letters, *(letter + "</w>" for letter in letters), *joined, *_SPECIAL]
        self._ids = dict(zip(every, range(len(every)), strict=True))
        self._ranks = dict(zip(lines, range(len(lines)), strict=True))
        self._known: dict[str, tuple[int, ...]] = {text: (self._ids[text],) for text in _SPECIAL}
        self._pattern = regex.compile(_WORDS, regex.IGNORECASE)
        self._bytes = _letters()
        self._lock = threading.Lock()

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        """`(Q, context_length)` int64: start, tokens, end, zeros; of what is longer the beginning and the end."""
        length = context_length or self.context_length
        start, end = (self._ids[text] for text in _SPECIAL)
        found = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens = [start, *self._encoded(text), end]
            tokens = tokens if len(tokens) <= length else [*tokens[: length - 1], end]
            found[row, : len(tokens)] = torch.tensor(tokens)
        return found

    def _encoded(self, text: str) -> list[int]:
        found: list[int] = []
        with self._lock:
            for word in self._pattern.findall(_cleaned(text)):
                letters = "".join(self._bytes[byte] for byte in word.encode("utf-8"))
                if letters not in self._known:
                    self._known[letters] = self._merged(letters)
                found.extend(self._known[letters])
        return found

    def _merged(self, letters: str) -> tuple[int, ...]:
        """The tokens of one word: of two neighbours those that were merged first become one, everywhere, until none is left."""
        word = [*letters[:-1], letters[-1] + "</w>"]
        nowhere = len(self._ranks)
        while len(word) > 1:
            rank, pair = min((self._ranks.get(f"{a} {b}", nowhere), (a, b)) for a, b in pairwise(word))
            if rank == nowhere:
                break
            merged, place = [], 0
            while place < len(word):
                is_pair = tuple(word[place : place + 2]) == pair
                merged.append("".join(pair) if is_pair else word[place])
                place += 2 if is_pair else 1
            word = merged
        return tuple(self._ids[part] for part in word)


def _cleaned(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or "&" in text:
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _letters() -> dict[int, str]:
    """A printable letter for each byte: itself where it is one, else one from beyond Latin-1."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + place) for place, byte in enumerate(others)}
