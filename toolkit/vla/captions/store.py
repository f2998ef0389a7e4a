"""Caption store of a workspace: the rows of captions files, by source file and content of the video.

A source is a file, identified by its name (relative to the workspace's folder if it lies below, links
resolved) and the digest of its bytes. So rows are not doubled by a move of the workspace, or by a copy,
a link or another name of the file, and a changed file replaces its rows. A video whose content changed
has no captions until they are added again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from vla.datasets.base import Annotation
from vla.errors import AnnotationError, CacheError
from vla.hints import Hint
from vla.storage import atomic
from vla.storage.workspace import Workspace

_WAY_ON = Hint("repair_captions")
_KEYS = {f.name for f in fields(Annotation)} | {"digest", "content", "beside", "stale"}


@dataclass(frozen=True)
class CaptionEntry:
    """One stored row of a captions file.

    Attributes:
        annotation: the row; its `source` is the file's name.
        digest: digest of the file; empty if there is no file, or in rows of older versions.
        content: content digest of the row's video, see `Receipt.content`; empty if unknown.
        is_sidecar: whether the file lies beside its video.
        is_stale: whether the video has changed since.
    """

    annotation: Annotation
    digest: str = ""
    content: str = ""
    is_sidecar: bool = False
    is_stale: bool = False

    @property
    def video(self) -> str:
        """The id of the video."""
        return self.annotation.video

    @property
    def source(self) -> str:
        """The name of the source file."""
        return self.annotation.source

    @property
    def key(self) -> tuple[object, ...]:
        """The content of the row, equal for duplicates."""
        a = self.annotation
        return a.video, a.query, a.spans, a.question

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object: the annotation's, and the other fields with values."""
        more = {"content": self.content, "beside": self.is_sidecar, "stale": self.is_stale}
        return {
            **self.annotation.to_json(),
            "digest": self.digest,
            **{k: v for k, v in more.items() if v},
        }

    @classmethod
    def from_json(cls, record: dict[str, Any], workspace: Workspace) -> CaptionEntry:
        """Decode the object of `to_json`, or an annotation alone, as older versions wrote it."""
        annotation = Annotation.from_json(record)
        texts = [record.get(name, "") for name in ("digest", "content")]
        flags = [record.get(name, False) for name in ("beside", "stale")]
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(flag, bool) for flag in flags
        ):
            raise TypeError(f"not a caption entry: {record!r:.200}")
        if "digest" not in record:
            # Older versions stored absolute paths for tables only, not for sidecars.
            flags[0] = bool(annotation.source) and not Path(annotation.source).is_absolute()
            annotation = replace(annotation, source=_from_root(annotation.source, workspace))
        return cls(annotation, *texts, *flags)


def entries(
    workspace: Workspace, on_damage: Callable[[str], None] | None = None
) -> list[CaptionEntry]:
    """Read all rows, including stale ones and duplicates from several files.

    Args:
        workspace: the workspace.
        on_damage: called with the reason for each damaged line, which is left out; None raises at the
            first.

    Raises:
        CacheError: a line is damaged; the message gives its number.
    """
    rows = []
    for number, line in enumerate(lines(workspace), 1):
        try:
            rows.append(parse_line(line, f"line {number} of {workspace.captions}", workspace))
        except CacheError as error:
            if on_damage is None:
                raise
            on_damage(str(error))
    # In older versions, which stored no digests, each move of a workspace doubled its rows.
    unique = {
        id(a) for a in deduplicate(e.annotation for e, has_digest, _ in rows if not has_digest)
    }
    return [e for e, has_digest, _ in rows if has_digest or id(e.annotation) in unique]


def load(workspace: Workspace, on_damage: Callable[[str], None] | None = None) -> list[Annotation]:
    """Load the annotations of the current content of the videos. Arguments and errors as for `entries`."""
    return [e.annotation for e in entries(workspace, on_damage) if not e.is_stale]


def load_unique(
    workspace: Workspace, on_damage: Callable[[str], None] | None = None
) -> list[Annotation]:
    """Load annotations without duplicates; see `load` and `deduplicate`."""
    return deduplicate(load(workspace, on_damage))


def deduplicate(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Drop duplicates of one video and time; keep the first, or the one that has a split."""
    unique: dict[tuple[object, ...], Annotation] = {}
    for a in annotations:
        key = CaptionEntry(a).key
        if key not in unique or (a.split and not unique[key].split):
            unique[key] = a
    return list(unique.values())


def lines(workspace: Workspace) -> list[bytes]:
    """Read the lines of the captions file, each with its newline; none if there is no file."""
    try:
        return (
            workspace.captions.read_bytes().splitlines(keepends=True)
            if workspace.captions.is_file()
            else []
        )
    except OSError as error:
        raise CacheError(
            f"{workspace.captions} cannot be read: {error.strerror or error}"
        ) from error


def parse_line(line: bytes, source: str, workspace: Workspace) -> tuple[CaptionEntry, bool, bool]:
    """Return the entry of a line, whether it has a file's digest, and whether it has a checksum.

    Raises:
        CacheError: the line is damaged.
    """
    document = atomic.decode_json(line, source, _WAY_ON)
    try:
        entry = CaptionEntry.from_json(document.value, workspace)
    except (AnnotationError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise CacheError(f"{source} is damaged ({error})", hint=_WAY_ON) from error
    # Without a checksum, an unknown key is the only sign of a damaged key.
    if not document.has_checksum and (unknown := set(document.value) - _KEYS):
        raise CacheError(f"{source} is damaged (it has the key {min(unknown)!r})", hint=_WAY_ON)
    return entry, "digest" in document.value, document.has_checksum


def write_lines(workspace: Workspace, new_lines: Iterable[bytes]) -> None:
    """Replace the lines of the captions file."""
    atomic.write_bytes(workspace.captions, b"".join(new_lines))


def rename(workspace: Workspace, names: Mapping[str, str]) -> None:
    """Assign the captions of renamed videos to their new ids: `names` maps old to new."""
    rows = entries(workspace)
    if any(e.video in names for e in rows):
        _write(workspace, [_with_video(e, names.get(e.video, e.video)) for e in rows])


def reconcile(
    workspace: Workspace, contents: Mapping[str, str], changed_videos: Collection[str] = ()
) -> list[CaptionEntry]:
    """Assign each row to the video that now has its content, or mark it stale if none has.

    Args:
        workspace: the workspace.
        contents: content digest of each video, by id.
        changed_videos: ids of videos with changed content; their rows without a known content become stale.

    Returns:
        The rows that became stale.
    """
    video_by_content = {content: video for video, content in sorted(contents.items(), reverse=True)}
    rows = entries(workspace)
    new_rows = [
        _reconcile_entry(workspace, e, contents, video_by_content, changed_videos) for e in rows
    ]
    if new_rows != rows:
        _write(workspace, new_rows)
    return [
        new for old, new in zip(rows, new_rows, strict=True) if new.is_stale and not old.is_stale
    ]


def _reconcile_entry(
    workspace: Workspace,
    e: CaptionEntry,
    contents: Mapping[str, str],
    video_by_content: Mapping[str, str],
    changed_videos: Collection[str],
) -> CaptionEntry:
    content = contents.get(e.video)
    if not e.content:
        if content is None or e.is_stale:
            return e
        return (
            replace(e, is_stale=True) if e.video in changed_videos else replace(e, content=content)
        )
    if content == e.content:
        return replace(e, is_stale=False)
    is_gone = content is None and not os.path.lexists(workspace.video_path(e.video))
    if e.content in video_by_content and (content is not None or is_gone):
        return replace(_with_video(e, video_by_content[e.content]), is_stale=False)
    return e if content is None else replace(e, is_stale=True)


def add(
    workspace: Workspace,
    annotations: Iterable[Annotation],
    contents: Mapping[str, str] | None = None,
    *,
    is_sidecar: bool = False,
    sources: Iterable[str] = (),
) -> int:
    """Store `annotations` in place of all earlier rows of their sources.

    Args:
        workspace: the workspace.
        annotations: the rows; `source` is the path of the file of each.
        contents: content digest of each video, by id.
        is_sidecar: whether the files lie beside their videos.
        sources: paths of files without rows now, whose earlier rows are removed, too.

    Returns:
        The number of rows in the workspace afterwards, without stale ones.
    """
    annotations = list(annotations)
    paths = dict.fromkeys([*(a.source for a in annotations), *sources])
    names = {
        path: _from_root(path if is_sidecar else _resolve_links(path), workspace) for path in paths
    }
    digests = {path: _digest(path) for path in paths}
    new = [
        CaptionEntry(
            replace(a, source=names[a.source]),
            digests[a.source],
            (contents or {}).get(a.video, ""),
            is_sidecar,
        )
        for a in annotations
    ]
    new_sources, new_keys = set(names.values()), {(e.digest, e.key) for e in new}
    # Older versions stored no digests: their rows of a renamed file are recognised by content alone.
    new_keys |= {("", e.key) for e in new}
    others = [
        e
        for e in entries(workspace)
        if e.source not in new_sources and (e.digest, e.key) not in new_keys
    ]
    if new or paths:
        _write(workspace, [*others, *new])
    return sum(not e.is_stale for e in (*others, *new))


def drop(workspace: Workspace, condition: Callable[[CaptionEntry], bool]) -> list[CaptionEntry]:
    """Delete the rows for which `condition` is true, and return them."""
    rows = entries(workspace)
    deleted = [e for e in rows if condition(e)]
    if deleted:
        _write(workspace, [e for e in rows if e not in set(deleted)])
    return deleted


def _with_video(entry: CaptionEntry, video: str) -> CaptionEntry:
    return replace(entry, annotation=replace(entry.annotation, video=video))


def _resolve_links(path: str) -> str:
    return os.path.realpath(path) if Path(path).is_absolute() else path


def _from_root(path: str, workspace: Workspace) -> str:
    """Return `path` relative to the workspace's folder if it lies below, through links or not."""
    if not Path(path).is_absolute():
        return path
    for root in (os.path.realpath(workspace.root), os.path.abspath(workspace.root)):  # noqa: PTH100
        if path.startswith(root.rstrip(os.sep) + os.sep):
            return Path(path).relative_to(root).as_posix()
    return Path(path).as_posix()


def _digest(path: str) -> str:
    """Return the SHA-256 of a file, cut to 32 hexadecimal digits; empty if it is not a regular file."""
    if not Path(path).is_absolute() or not os.path.isfile(path):  # noqa: PTH113
        return ""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""


def _write(workspace: Workspace, rows: Iterable[CaptionEntry]) -> None:
    write_lines(workspace, (atomic.encode_json(e.to_json(), indent=None, digits=16) for e in rows))
