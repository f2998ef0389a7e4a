"""Counts with their nouns."""

from __future__ import annotations


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return `1 video` or `1,224 frames`; pass `nouns` if the plural is not `noun` plus s."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
