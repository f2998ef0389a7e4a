"""Splitting of text at sentences, then clauses, then words."""

from __future__ import annotations

import re
from collections.abc import Callable

# From the best boundary to the worst: after a sentence, after a clause, before a conjunction,
# between words.
_CUTS = (
    re.compile(r"(?<=[.!?;])\s+|\s*\n\s*"),
    re.compile(r"(?<=[,:\u2014])\s+"),
    re.compile(r"\s+(?=(?:and|then|but|while|before|after|or)\b)", re.IGNORECASE),
    re.compile(r"\s+"),
)


def sentences(text: str) -> list[str]:
    """Return the stripped, non-empty sentences of `text`; `[]` for blank text."""
    return [part for part in (p.strip() for p in _CUTS[0].split(text)) if part]


def split_to_fit(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Split `text` into chunks that satisfy `fits`: as few as possible, at the best boundaries
    available.

    Every word of `text` is in exactly one chunk, in order. A single word that does not fit is a
    chunk by itself; the encoder rejects or truncates it.
    """
    text = " ".join(text.split()) if "\n" not in text else text.strip()
    if not text:
        return []
    return [text] if fits(text) else _split(text, fits, 0)


def _split(text: str, fits: Callable[[str], bool], level: int) -> list[str]:
    if level == len(_CUTS) or fits(text):
        return [text]
    chunks: list[str] = []
    for part in (p.strip() for p in _CUTS[level].split(text)):
        if not part:
            continue
        candidate = f"{chunks[-1]} {part}" if chunks else part
        # Sentences stay separate even if two would fit: each is a statement of its own. Smaller
        # parts are joined.
        if chunks and level > 0 and fits(candidate):
            chunks[-1] = candidate
        elif fits(part):
            chunks.append(part)
        else:
            chunks.extend(_split(part, fits, level + 1))
    return chunks
