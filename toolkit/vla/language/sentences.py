"""Cutting text where a reader would: into sentences, clauses, and only then words."""

from __future__ import annotations

import re
from collections.abc import Callable

# From the best place to cut to the worst: after a sentence, after a clause, before a conjunction, between words.
_CUTS = (
    re.compile(r"(?<=[.!?;])\s+|\s*\n\s*"),
    re.compile(r"(?<=[,:\u2014])\s+"),
    re.compile(r"\s+(?=(?:and|then|but|while|before|after|or)\b)", re.IGNORECASE),
    re.compile(r"\s+"),
)


def sentences(text: str) -> list[str]:
    """The sentences of `text`, stripped, none empty; `[]` for blank text."""
    return [part for part in (p.strip() for p in _CUTS[0].split(text)) if part]


def split_to_fit(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Pieces of `text` for each of which `fits(piece)` holds: as few cuts as possible, at the best places there are.

    Every word of `text` is in exactly one piece, in order. A single word that does not fit is a piece of its own: it is
    the encoder's to refuse or shorten.
    """
    text = " ".join(text.split()) if "\n" not in text else text.strip()
    if not text:
        return []
    return [text] if fits(text) else _split(text, fits, 0)


def _split(text: str, fits: Callable[[str], bool], level: int) -> list[str]:
    if level == len(_CUTS) or fits(text):
        return [text]
    pieces: list[str] = []
    for part in (p.strip() for p in _CUTS[level].split(text)):
        if not part:
            continue
        joined = f"{pieces[-1]} {part}" if pieces else part
        # Sentences stay apart even where two would fit: each is a statement of its own. Smaller parts are joined.
        if pieces and level > 0 and fits(joined):
            pieces[-1] = joined
        elif fits(part):
            pieces.append(part)
        else:
            pieces.extend(_split(part, fits, level + 1))
    return pieces
