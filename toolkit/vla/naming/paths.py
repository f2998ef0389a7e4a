"""Paths as people and files write them, taken apart: either slash, drives, shares, URLs, Unicode in any form, glob patterns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qs, unquote, urlsplit

from vla.video import SUFFIXES

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:/")
_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")
_HOME = re.compile(r"~[^\\/]*[\\/]")
_DIGITS = re.compile(r"\d+")

Parts = tuple[str, ...]


@dataclass(frozen=True)
class ParsedPath:
    """A name as it was taken apart: folders and file name, and whether it begins at the root of some machine."""

    parts: Parts
    is_rooted: bool


def stem(name: str) -> str:
    """`name` without the suffix of a video."""
    base, dot, suffix = name.rpartition(".")
    return base if base and dot and f".{suffix.lower()}" in SUFFIXES else name


def parse_path(name: str) -> ParsedPath:
    """Folders and file name of `name`, without what belongs to one machine alone."""
    name = unicodedata.normalize("NFC", name)
    if _URL.match(name):
        return _of_url(name)
    drive = _DRIVE.match(name)
    home = _HOME.match(name)
    rest = name[drive.end() :] if drive else name[home.end() :] if home else name
    is_rooted = bool(drive or home) or rest[:1] in ("/", "\\")
    if rest.startswith("\\\\"):
        rest = rest.lstrip("\\").partition("\\")[2]  # the server
    return ParsedPath(normalize_parts(raw_parts(rest)), is_rooted)


def _of_url(name: str) -> ParsedPath:
    try:
        url = urlsplit(name)
    except ValueError:  # no address, whatever it looks like
        return ParsedPath(normalize_parts(raw_parts(name)), True)
    if url.scheme.lower() not in ("http", "https", "ftp", "file"):
        # Names in buckets are as they are written.
        return ParsedPath(normalize_parts(raw_parts(name.partition("://")[2].partition("/")[2])), True)
    asked = parse_qs(url.query) if url.path.endswith("/watch") else {}
    if "v" in asked:
        # A page that shows a video names it in its query: youtube.com/watch?v=ID.
        return ParsedPath((asked["v"][0],), True)
    path = unicodedata.normalize("NFC", unquote(url.path, errors="surrogateescape"))
    return ParsedPath(normalize_parts(raw_parts(_DRIVE.sub("", path.lstrip("/"), count=1))), True)


def raw_parts(name: str) -> list[str]:
    """`name` cut at slashes of either kind, in composed Unicode."""
    return unicodedata.normalize("NFC", name).replace("\\", "/").split("/")


def mask_digits(folder: str) -> str:
    """`folder` without its numbers, which is all that the folders of a series differ in."""
    return _DIGITS.sub("0", folder)


def normalize_parts(parts: Iterable[str]) -> Parts:
    """`parts` without blank ones, `.` and `..`; nothing lies above the first."""
    found: list[str] = []
    for part in parts:
        if part == "..":
            found = found[:-1]
        elif part not in ("", "."):
            found.append(part)
    return tuple(found)


def matches_pattern(video_id: str, pattern: str) -> bool:
    """True if the folder, file or glob pattern, counted from where ids do, fits the id; see `NameMatcher.select`."""
    name, asked = parse_path(video_id), parse_path(pattern)
    return video_id == pattern or (name.is_rooted == asked.is_rooted and path_matches(name.parts, asked.parts))


def path_matches(path: Parts, pattern: Parts) -> bool:
    """True if `pattern` fits `path` or a folder above it."""
    reached = {0}
    # Places in the pattern that the path so far may have come to.
    for position in range(len(path) + 1):
        for place in sorted(reached):
            while place < len(pattern) and pattern[place] == "**":
                place += 1
                reached.add(place)
        if len(pattern) in reached and position:
            return True
        if position == len(path):
            return False
        part = path[position]
        reached = {
            place if pattern[place] == "**" else place + 1
            for place in reached
            if place < len(pattern)
            and (pattern[place] == "**" or pattern[place] == part or fnmatchcase(part, pattern[place]))
        }
        if not reached:
            return False
    return False
