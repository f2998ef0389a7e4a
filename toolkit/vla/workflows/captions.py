"""`captions`: which files the workspace's captions are from, what is known of a video, and how to take captions back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla.captions import store as caption_store
from vla.captions.store import CaptionEntry
from vla.errors import MissingError
from vla.hints import Hint
from vla.naming.matching import Names
from vla.progress import ProgressCallback, silent
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class CaptionSource:
    """A file that captions are from.

    Attributes:
        source: its name: the path from the workspace's folder where it lies below, else an absolute one.
        videos: how many videos it has rows of.
        captions: rows that are captions.
        questions: rows that are questions.
        splits: rows by split; those without one under an empty name.
        stale: rows of videos whose content is another one since; they are not used until they are given again.
        is_beside: it lies beside its video, and is read at every `extract`.
        is_missing: the file is no longer there; its rows still are.
    """

    source: str
    videos: int
    captions: int
    questions: int
    splits: dict[str, int]
    stale: int
    is_beside: bool
    is_missing: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        return asdict(self)


def list_captions(*, workspace: Path | str | None = None) -> list[CaptionSource]:
    """The files that the captions of the workspace are from, by name."""
    place = Workspace.open(workspace)
    by_source: dict[str, list[CaptionEntry]] = {}
    for entry in caption_store.entries(place):
        by_source.setdefault(entry.source, []).append(entry)
    return [_summary(place, source, by_source[source]) for source in sorted(by_source)]


def video_captions(video: str | Path, *, workspace: Path | str | None = None) -> list[CaptionEntry]:
    """Every row about one video, also stale ones.

    Args:
        video: any name that means it; see `vla.naming.matching`.
        workspace: as for `search`.

    Raises:
        MissingError: no captions are about such a video.
        UsageError: several videos are called so.
    """
    place = Workspace.open(workspace)
    stored = caption_store.entries(place)
    names = Names((e.video for e in stored), place.root)
    if not names.find(str(video), place.root, Path.cwd()):
        raise MissingError(f"there are no captions of {str(video)!r}", hint=Hint("list_captions"))
    name = names.one(str(video), place.root, Path.cwd())
    return [e for e in stored if e.video == name]


def remove_captions(
    sources: Iterable[str | Path], *, workspace: Path | str | None = None, progress: ProgressCallback = silent
) -> dict[str, int]:
    """Forget the captions of files; the files stay. Returns how many rows of each were forgotten.

    Args:
        sources: names, paths or glob patterns of the files, as `Names.chosen` has them.
        workspace: as for `search`.
        progress: called while another process holds the workspace.

    Raises:
        MissingError: the workspace has no captions of such a file; nothing was forgotten.
        UsageError: several files are called so.
    """
    place = Workspace.open(workspace)
    with place.locked(progress):
        stored = caption_store.entries(place)
        names = Names((e.source for e in stored), place.root)
        chosen: set[str] = set()
        for given in map(str, sources):
            fits = names.chosen(given, place.root, Path.cwd())
            if not fits:
                raise MissingError(f"no captions here are from {given!r}", hint=Hint("list_captions"))
            chosen.update(fits)
        gone = caption_store.drop(place, lambda e: e.source in chosen)
    return dict(Counter(e.source for e in gone))


def _summary(place: Workspace, source: str, some: list[CaptionEntry]) -> CaptionSource:
    questions = sum(e.annotation.question is not None for e in some)
    return CaptionSource(
        source,
        len({e.video for e in some}),
        len(some) - questions,
        questions,
        dict(Counter(e.annotation.split for e in some)),
        sum(e.is_stale for e in some),
        any(e.is_beside for e in some),
        not os.path.lexists(place.root / source),
    )
