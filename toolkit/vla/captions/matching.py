"""Match the names in captions files with cached videos."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vla.datasets.base import Annotation
from vla.naming.matching import Names
from vla.omissions import Omissions
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class MatchResult:
    """Annotations whose videos are there, and names that mean none.

    Attributes:
        annotations: their `video` is an id.
        names: the name that the file has for the video of each.
        unknown: names without a video, each once, in order.
        ambiguous: names that fit several videos, with up to three of them.
    """

    annotations: list[Annotation]
    names: list[str]
    unknown: list[str]
    ambiguous: dict[str, list[str]]

    def count(self, omissions: Omissions) -> None:
        """Count the names that mean no video, or several."""
        for name in self.unknown:
            omissions.add("no-such-video", name)
        for name, ids in self.ambiguous.items():
            omissions.add("ambiguous-name", f"{name}: {' or '.join(ids)}")


def match(
    annotations: Iterable[Annotation], video_ids: Iterable[str], workspace: Workspace, folder: Path | None = None
) -> MatchResult:
    """Annotations with `video` set to the id that their file means; see `vla.naming.matching`.

    Args:
        annotations: as they were read.
        video_ids: of the cached videos.
        workspace: names may count from its folder.
        folder: names count from it first; the folder of each annotation's source when None.
    """
    names = Names(video_ids, workspace.root)
    by_source: dict[str, list[Annotation]] = {}
    listed = list(annotations)
    for a in listed:
        by_source.setdefault(a.source if folder is None else "", []).append(a)
    matched = MatchResult([], [], [], {})
    unknown: dict[str, None] = {}
    for source, some in by_source.items():
        near = folder if folder is not None else Path(source).parent if Path(source).is_absolute() else workspace.root
        found = names.find_all((a.video for a in some), near, workspace.root)
        kept = [a for a in some if a.video in found.ids]
        matched.annotations.extend(replace(a, video=found.ids[a.video]) for a in kept)
        matched.names.extend(a.video for a in kept)
        unknown.update(dict.fromkeys(found.unknown))
        matched.ambiguous.update(found.ambiguous)
    matched.unknown.extend(unknown)
    return matched
