"""Matching of the video names in captions files with cached videos."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vla.datasets.base import Annotation
from vla.naming.matching import NameMatcher
from vla.omissions import Omissions
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class MatchResult:
    """Annotations of cached videos, and the names that match no video.

    Attributes:
        annotations: the matched annotations; their `video` is an id.
        names: for each annotation, the name of its video in the file.
        unknown: names that match no video, each once, in order.
        ambiguous: names that match several videos, each with up to three of their ids.
    """

    annotations: list[Annotation]
    names: list[str]
    unknown: list[str]
    ambiguous: dict[str, list[str]]

    def count(self, omissions: Omissions) -> None:
        """Add the names that match no video, or several, to `omissions`."""
        for name in self.unknown:
            omissions.add("no-such-video", name)
        for name, ids in self.ambiguous.items():
            omissions.add("ambiguous-name", f"{name}: {' or '.join(ids)}")


def match(
    annotations: Iterable[Annotation],
    video_ids: Iterable[str],
    workspace: Workspace,
    folder: Path | None = None,
) -> MatchResult:
    """Replace the video name of each annotation by the id that it stands for; see `vla.naming.matching`.

    Args:
        annotations: as they were read.
        video_ids: ids of the cached videos.
        workspace: names may be relative to its folder.
        folder: names are relative to this folder first; the folder of each annotation's source when None.
    """
    matcher = NameMatcher(video_ids, workspace.root)
    by_source: dict[str, list[Annotation]] = {}
    for a in annotations:
        by_source.setdefault(a.source if folder is None else "", []).append(a)
    result = MatchResult([], [], [], {})
    unknown: dict[str, None] = {}
    for source, rows in by_source.items():
        if folder is not None:
            base = folder
        else:
            base = Path(source).parent if Path(source).is_absolute() else workspace.root
        matches = matcher.find_all((a.video for a in rows), base, workspace.root)
        matched_rows = [a for a in rows if a.video in matches.ids]
        result.annotations.extend(replace(a, video=matches.ids[a.video]) for a in matched_rows)
        result.names.extend(a.video for a in matched_rows)
        unknown.update(dict.fromkeys(matches.unknown))
        result.ambiguous.update(matches.ambiguous)
    result.unknown.extend(unknown)
    return result
