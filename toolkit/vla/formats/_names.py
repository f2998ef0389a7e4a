"""File names for videos whose own names hold slashes, odd bytes, or nothing that a file system takes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

_ODD = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST = 80
# Windows keeps these for devices, with any suffix.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}


def file_names(video_ids: Iterable[str], *, dots: bool = True) -> dict[str, str]:
    """A file name for each video, without a suffix: its own where that is safe and free, else as near as can be.

    ASCII letters, digits, `_`, `-` and, with `dots`, `.`; no two are alike on a file system that knows no capitals, and none
    has a meaning of its own anywhere. The same videos get the same names.
    """
    plain = {v: _plain(v, dots) for v in video_ids}
    found: dict[str, str] = {}
    taken: set[str] = set()
    for video_id in sorted(plain, key=lambda v: (plain[v] != v, v)):
        digest = hashlib.sha256(os.fsencode(video_id)).hexdigest()
        choices = (plain[video_id], f"{plain[video_id]}-{digest[:8]}", f"{plain[video_id]}-{digest}")
        found[video_id] = next(c for c in choices if c.casefold() not in taken)
        taken.add(found[video_id].casefold())
    return found


def _plain(video_id: str, dots: bool) -> str:
    """Not empty, no dot or dash in front, no dot at the end, not reserved; the end of a long name."""
    plain = _ODD.sub("_", video_id)
    plain = plain if dots else plain.replace(".", "_")
    plain = plain[-_LONGEST:].strip(".").lstrip(".-") or "video"
    return f"_{plain}" if plain.split(".")[0].casefold() in _RESERVED else plain
