"""Parser of paths as people write them: slashes of either kind, drives, shares, URLs, globs."""

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
    """A path split into folders and file name.

    Attributes:
        parts: the folders and the file name, in composed Unicode.
        is_rooted: whether the path begins at the root of some machine.
    """

    parts: Parts
    is_rooted: bool


def stem(name: str) -> str:
    """Return `name` without the suffix of a video."""
    base, dot, suffix = name.rpartition(".")
    return base if base and dot and f".{suffix.lower()}" in SUFFIXES else name


def parse_path(name: str) -> ParsedPath:
    """Split `name` into folders and file name; drop its drive, home folder, share or URL host."""
    name = unicodedata.normalize("NFC", name)
    if _URL.match(name):
        return _parse_url(name)
    drive = _DRIVE.match(name)
    home = _HOME.match(name)
    rest = name[drive.end() :] if drive else name[home.end() :] if home else name
    is_rooted = bool(drive or home) or rest[:1] in ("/", "\\")
    if rest.startswith("\\\\"):
        rest = rest.lstrip("\\").partition("\\")[2]  # drops the server
    return ParsedPath(normalize_parts(raw_parts(rest)), is_rooted)


def _parse_url(name: str) -> ParsedPath:
    try:
        url = urlsplit(name)
    except ValueError:  # not a valid URL after all
        return ParsedPath(normalize_parts(raw_parts(name)), True)
    if url.scheme.lower() not in ("http", "https", "ftp", "file"):
        # Names of objects in buckets (s3://, gs://) are not percent-encoded.
        return ParsedPath(
            normalize_parts(raw_parts(name.partition("://")[2].partition("/")[2])), True
        )
    query = parse_qs(url.query) if url.path.endswith("/watch") else {}
    if "v" in query:
        # A page that plays a video names it in its query: youtube.com/watch?v=ID.
        return ParsedPath((query["v"][0],), True)
    path = unicodedata.normalize("NFC", unquote(url.path, errors="surrogateescape"))
    return ParsedPath(normalize_parts(raw_parts(_DRIVE.sub("", path.lstrip("/"), count=1))), True)


def raw_parts(name: str) -> list[str]:
    """Split `name` at slashes of either kind, in composed Unicode."""
    return unicodedata.normalize("NFC", name).replace("\\", "/").split("/")


def mask_digits(folder: str) -> str:
    """Replace each number in `folder` by 0, so that the folders of a numbered series become equal."""
    return _DIGITS.sub("0", folder)


def normalize_parts(parts: Iterable[str]) -> Parts:
    """Resolve `.`, `..` and empty parts; `..` at the first part is dropped."""
    result: list[str] = []
    for part in parts:
        if part == "..":
            result = result[:-1]
        elif part not in ("", "."):
            result.append(part)
    return tuple(result)


def matches_pattern(video_id: str, pattern: str) -> bool:
    """Return whether an id matches a folder, file or glob pattern, both relative to the workspace.

    See `NameMatcher.select`.
    """
    name, glob = parse_path(video_id), parse_path(pattern)
    return video_id == pattern or (
        name.is_rooted == glob.is_rooted and path_matches(name.parts, glob.parts)
    )


def path_matches(path: Parts, pattern: Parts) -> bool:
    """Return whether `pattern` matches `path` or a folder above it; `**` is any number of folders."""
    # Positions in the pattern that the parts read so far may have reached.
    states = {0}
    for position in range(len(path) + 1):
        for state in sorted(states):
            while state < len(pattern) and pattern[state] == "**":
                state += 1
                states.add(state)
        if len(pattern) in states and position:
            return True
        if position == len(path):
            return False
        part = path[position]
        states = {
            state if pattern[state] == "**" else state + 1
            for state in states
            if state < len(pattern)
            and (
                pattern[state] == "**"
                or pattern[state] == part
                or fnmatchcase(part, pattern[state])
            )
        }
        if not states:
            return False
    return False


def contradictions(partial_names: list[str], complete_names: list[str]) -> list[str]:
    """Return the names among `partial_names` that cannot mean the same video as the other names.

    Args:
        partial_names: names of a video that match only the end of its path.
        complete_names: names of which every part matches.
    """
    paths = {name: parse_path(name).parts for name in (*partial_names, *complete_names)}
    longest = max(partial_names, key=lambda name: len(paths[name]))
    if all(_may_be_equal(paths[longest], paths[name]) for name in partial_names if name != longest):
        return [
            name
            for name in partial_names
            if not all(_may_be_equal(paths[name], paths[other]) for other in complete_names)
        ]
    return partial_names


def _may_be_equal(first: Parts, second: Parts) -> bool:
    """Return whether one name may be the end of the other; a missing suffix may be any."""
    common = min(len(first), len(second))
    if first[-common:-1] != second[-common:-1]:
        return False
    a, b = first[-1], second[-1]
    return a == b or (stem(a) == stem(b) and (a == stem(a) or b == stem(b)))
