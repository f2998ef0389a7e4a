"""`list_captions`, `video_captions`, `remove_captions`: caption files of a workspace and their
entries.
"""

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
from vla.naming.matching import NameMatcher
from vla.progress import ProgressCallback, silent
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class CaptionSource:
    """A file whose captions are in the workspace.

    Attributes:
        source: its path: relative to the workspace if it lies below it, else absolute.
        videos: number of videos with entries.
        captions: number of captions.
        questions: number of questions.
        splits: number of entries by split; the key is empty for entries without one.
        stale: number of entries whose video has been replaced since; they are ignored until they
            are added again.
        is_beside: whether it is a sidecar file, which every `extract` reads.
        is_missing: whether the file no longer exists; its entries remain.
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
        """Return all fields as a JSON object."""
        return asdict(self)


def list_captions(*, workspace: Path | str | None = None) -> list[CaptionSource]:
    """Return the caption files of the workspace, sorted by name."""
    ws = Workspace.open(workspace)
    by_source: dict[str, list[CaptionEntry]] = {}
    for entry in caption_store.entries(ws):
        by_source.setdefault(entry.source, []).append(entry)
    return [_summarize_source(ws, source, by_source[source]) for source in sorted(by_source)]


def video_captions(video: str | Path, *, workspace: Path | str | None = None) -> list[CaptionEntry]:
    """Return all entries of one video, including stale ones.

    Args:
        video: any name of the video; see `vla.naming.matching`.
        workspace: as for `search`.

    Raises:
        MissingError: no captions belong to such a video.
        UsageError: the name matches several videos.
    """
    ws = Workspace.open(workspace)
    entries = caption_store.entries(ws)
    names = NameMatcher((e.video for e in entries), ws.root)
    if not names.find(str(video), ws.root, Path.cwd()):
        raise MissingError(f"there are no captions of {str(video)!r}", hint=Hint("list_captions"))
    name = names.resolve(str(video), ws.root, Path.cwd())
    return [e for e in entries if e.video == name]


def remove_captions(
    sources: Iterable[str | Path],
    *,
    workspace: Path | str | None = None,
    progress: ProgressCallback = silent,
) -> dict[str, int]:
    """Remove the captions of files from the workspace; the files stay. Returns the number of
    removed entries by source.

    Args:
        sources: names, paths or glob patterns of the files; see `NameMatcher.select`.
        workspace: as for `search`.
        progress: called while another process holds the workspace lock.

    Raises:
        MissingError: the workspace has no captions of such a file; nothing was removed.
        UsageError: a name matches several files.
    """
    ws = Workspace.open(workspace)
    with ws.lock(progress):
        entries = caption_store.entries(ws)
        names = NameMatcher((e.source for e in entries), ws.root)
        selection: set[str] = set()
        for pattern in map(str, sources):
            matches = names.select(pattern, ws.root, Path.cwd())
            if not matches:
                raise MissingError(
                    f"the workspace has no captions from {pattern!r}", hint=Hint("list_captions")
                )
            selection.update(matches)
        removed_entries = caption_store.drop(ws, lambda e: e.source in selection)
    return dict(Counter(e.source for e in removed_entries))


def _summarize_source(
    workspace: Workspace, source: str, entries: list[CaptionEntry]
) -> CaptionSource:
    questions = sum(e.annotation.question is not None for e in entries)
    return CaptionSource(
        source,
        len({e.video for e in entries}),
        len(entries) - questions,
        questions,
        dict(Counter(e.annotation.split for e in entries)),
        sum(e.is_stale for e in entries),
        any(e.is_sidecar for e in entries),
        not os.path.lexists(workspace.root / source),
    )
