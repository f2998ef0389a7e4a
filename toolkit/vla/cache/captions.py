"""Captions of a workspace: what is known about which cached video, and how names in files meet videos on disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath

from vla import durable
from vla.datasets.base import Annotation
from vla.errors import AnnotationError, CacheError
from vla.video import SUFFIXES
from vla.workspace import Workspace

_WAY_ON = "'vla verify --repair' drops damaged lines, then give their captions again"
_KEYS = {f.name for f in fields(Annotation)}


@dataclass(frozen=True)
class Matched:
    """Annotations whose videos are known, and the names for which there is no video."""

    annotations: list[Annotation]
    unknown: list[str]


@dataclass(frozen=True)
class Found:
    """What names mean: the id of a video by name, the names for which there is none, and those that fit several ids."""

    ids: dict[str, str]
    unknown: list[str]
    ambiguous: dict[str, list[str]]


def match(annotations: Iterable[Annotation], video_ids: Iterable[str], workspace: Workspace, folder: Path) -> Matched:
    """Annotations with `video` set to the id of the cached video that their file means, as `find` finds it.

    Raises:
        AnnotationError: a name fits several videos.
    """
    listed = list(annotations)
    found = find((a.video for a in listed), video_ids, workspace, folder)
    if found.ambiguous:
        name, candidates = next(iter(found.ambiguous.items()))
        raise AnnotationError(
            f"{len(found.ambiguous)} video names are ambiguous, e.g. {name!r} fits {', '.join(candidates[:3])}: "
            "write paths relative to the captions file"
        )
    return Matched([replace(a, video=found.ids[a.video]) for a in listed if a.video in found.ids], found.unknown)


def find(names: Iterable[str], video_ids: Iterable[str], workspace: Workspace, folder: Path) -> Found:
    """The videos that names in a file mean.

    A name is tried as a path from the file's `folder`, as an id or a path from the workspace, then as a file name, then as
    a file name without suffix; a file name also means the video that is called so without its suffix, as imported ones are.
    A name that several videos share is never guessed at.
    """
    known = set(video_ids)
    by_name: dict[str, list[str]] = defaultdict(list)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for video_id in sorted(known):
        name = PurePath(video_id).name
        by_name[name].append(video_id)
        by_stem[PurePath(name).stem].append(video_id)
    found = Found({}, [], {})
    for name in dict.fromkeys(names):
        exact = [
            c
            for c in (workspace.video_id(folder / name), name, workspace.video_id(workspace.root / name))
            if c in known
        ]
        last = PurePath(name).name
        candidates = exact[:1] or by_name.get(last) or by_stem.get(last, [])
        if not candidates and PurePath(last).suffix.lower() in SUFFIXES:
            candidates = by_name.get(PurePath(last).stem, [])
        if len(candidates) > 1:
            found.ambiguous[name] = candidates
        elif candidates:
            found.ids[name] = candidates[0]
        else:
            found.unknown.append(name)
    return found


def load(workspace: Workspace, on_damage: Callable[[str], None] | None = None) -> list[Annotation]:
    """Every annotation of the workspace.

    Args:
        workspace: whose.
        on_damage: called with the reason for each damaged line, which is then left out; None raises at the first.

    Raises:
        CacheError: a line is damaged; the message says which, and the way on.
    """
    found = []
    for number, line in enumerate(lines(workspace), 1):
        try:
            found.append(decoded(line, f"line {number} of {workspace.captions}")[0])
        except CacheError as error:
            if on_damage is None:
                raise
            on_damage(str(error))
    return found


def lines(workspace: Workspace) -> list[bytes]:
    """The lines of the captions file, each with its newline; none where there is no file."""
    try:
        return workspace.captions.read_bytes().splitlines(keepends=True) if workspace.captions.is_file() else []
    except OSError as error:
        raise CacheError(f"{workspace.captions} cannot be read: {error.strerror or error}") from error


def decoded(line: bytes, source: str) -> tuple[Annotation, bool]:
    """The annotation of a line, and whether it has a checksum; raises CacheError if the line is damaged."""
    stored = durable.unsealed(line, source, _WAY_ON)
    try:
        annotation = Annotation.from_json(stored.value)
    except AnnotationError as error:
        raise CacheError(f"{source} is damaged ({error}): {_WAY_ON}") from error
    # Without a checksum nothing else tells a damaged key from one that is empty.
    if not stored.is_checked and (unknown := set(stored.value) - _KEYS):
        raise CacheError(f"{source} is damaged (it has the key {min(unknown)!r}): {_WAY_ON}")
    return annotation, stored.is_checked


def keep_lines(workspace: Workspace, kept: Iterable[bytes]) -> None:
    """Let the captions file hold these lines and no others."""
    durable.write_bytes(workspace.captions, b"".join(kept))


def rename(workspace: Workspace, names: Mapping[str, str]) -> None:
    """Let captions of a video that was renamed follow it: `names` maps old to new."""
    known = load(workspace)
    if any(a.video in names for a in known):
        _write(workspace, [replace(a, video=names.get(a.video, a.video)) for a in known])


def add(workspace: Workspace, annotations: Iterable[Annotation]) -> int:
    """Keep `annotations`; all of a source given before are replaced by its new ones. Returns how many there are now."""
    new = list(annotations)
    sources = {a.source for a in new}
    kept = [a for a in load(workspace) if a.source not in sources] + new
    _write(workspace, kept)
    return len(kept)


def _write(workspace: Workspace, annotations: Iterable[Annotation]) -> None:
    keep_lines(workspace, (durable.sealed(a.to_json(), indent=None, digits=16) for a in annotations))
