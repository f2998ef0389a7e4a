"""File names for videos whose own names contain slashes, odd bytes or other unsafe characters."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_LENGTH = 80
# Windows reserves these names for devices, with any suffix.
_DEVICE_NAMES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{d}{n}" for d in ("com", "lpt") for n in range(10)),
}


def file_names(video_ids: Iterable[str], *, dots: bool = True) -> dict[str, str]:
    """Return a file name without suffix for each video: its own if safe, else a similar one.

    Names consist of ASCII letters, digits, `_`, `-` and, with `dots`, `.`. They differ even on a
    case-insensitive file system, and none has a special meaning on any system. The same videos get
    the same names.
    """
    plain = {v: _plain(v, dots) for v in video_ids}
    names: dict[str, str] = {}
    folded_names: set[str] = set()
    for video_id in sorted(plain, key=lambda v: (plain[v] != v, v)):
        digest = hashlib.sha256(os.fsencode(video_id)).hexdigest()
        candidates = (
            plain[video_id],
            f"{plain[video_id]}-{digest[:8]}",
            f"{plain[video_id]}-{digest}",
        )
        names[video_id] = next(c for c in candidates if c.casefold() not in folded_names)
        folded_names.add(names[video_id].casefold())
    return names


def _plain(video_id: str, dots: bool) -> str:
    """Return a safe name: not empty, not reserved, no dot or dash in front, no dot at the end.

    A long name is cut at its beginning.
    """
    plain = _UNSAFE.sub("_", video_id)
    plain = plain if dots else plain.replace(".", "_")
    plain = plain[-_MAX_LENGTH:].strip(".").lstrip(".-") or "video"
    return f"_{plain}" if plain.split(".")[0].casefold() in _DEVICE_NAMES else plain
