"""Captions of a workspace: what is known about which cached video, and how names in files meet videos on disk."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from vla import durable
from vla.datasets.base import Annotation
from vla.errors import AnnotationError, CacheError
from vla.video import SUFFIXES
from vla.workspace import Workspace


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


def load(workspace: Workspace) -> list[Annotation]:
    """Every annotation of the workspace; raises CacheError if the file is damaged."""
    if not workspace.captions.is_file():
        return []
    try:
        lines = workspace.captions.read_text("ascii").splitlines()
        return [Annotation.from_json(json.loads(line)) for line in lines]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheError(f"{workspace.captions} is damaged ({error}): delete it and give the captions again") from error


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
    lines = [json.dumps(a.to_json(), sort_keys=True) + "\n" for a in annotations]
    durable.write_bytes(workspace.captions, "".join(lines).encode("ascii"))
