"""Captions of a workspace: which rows of which file tell of which content of a video, each counted once.

A row belongs to its source and to the content of its video. A source is a file by its name (from the workspace's folder where it
lies below, links resolved) and the digest of its bytes: neither a move of the workspace nor a copy, a link or another name of the
file doubles its rows, and a changed file replaces them. A video whose content changed has no captions until they are given again.
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
    """A row as the workspace keeps it.

    Attributes:
        annotation: the row; its `source` is the file's name.
        digest: of the file's bytes; empty where it was no file, or an earlier version kept the row.
        content: of the video that the row was given for, as its receipt has it; empty where that is not known.
        is_beside: the file lies beside its video.
        is_stale: the video has other content since.
    """

    annotation: Annotation
    digest: str = ""
    content: str = ""
    is_beside: bool = False
    is_stale: bool = False

    @property
    def video(self) -> str:
        """The id of the video."""
        return self.annotation.video

    @property
    def source(self) -> str:
        """The name of the file."""
        return self.annotation.source

    @property
    def said(self) -> tuple[object, ...]:
        """Equal for rows that say the same of the same."""
        a = self.annotation
        return a.video, a.query, a.spans, a.question

    def to_json(self) -> dict[str, Any]:
        """A JSON object: that of the annotation, and what else there is."""
        more = {"content": self.content, "beside": self.is_beside, "stale": self.is_stale}
        return {**self.annotation.to_json(), "digest": self.digest, **{k: v for k, v in more.items() if v}}

    @classmethod
    def from_json(cls, record: dict[str, Any], workspace: Workspace) -> CaptionEntry:
        """The entry that `to_json` wrote, or the annotation alone, as earlier versions did."""
        annotation = Annotation.from_json(record)
        texts = [record.get(name, "") for name in ("digest", "content")]
        flags = [record.get(name, False) for name in ("beside", "stale")]
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(flag, bool) for flag in flags):
            raise TypeError(f"not an entry: {record!r:.200}")
        if "digest" not in record:
            # Tables had absolute paths then, and files beside videos had none.
            flags[0] = bool(annotation.source) and not Path(annotation.source).is_absolute()
            annotation = replace(annotation, source=_from_root(annotation.source, workspace))
        return cls(annotation, *texts, *flags)


def entries(workspace: Workspace, on_damage: Callable[[str], None] | None = None) -> list[CaptionEntry]:
    """Every row of the workspace, also stale ones and those that several files have.

    Args:
        workspace: whose.
        on_damage: called with the reason for each damaged line, which is then left out; None raises at the first.

    Raises:
        CacheError: a line is damaged; the message says which.
    """
    stored = []
    for number, line in enumerate(lines(workspace), 1):
        try:
            stored.append(decoded(line, f"line {number} of {workspace.captions}", workspace))
        except CacheError as error:
            if on_damage is None:
                raise
            on_damage(str(error))
    # Without digests every move of a workspace doubled its rows.
    kept = {id(a) for a in deduplicate(e.annotation for e, is_dated, _ in stored if not is_dated)}
    return [e for e, is_dated, _ in stored if is_dated or id(e.annotation) in kept]


def load(workspace: Workspace, on_damage: Callable[[str], None] | None = None) -> list[Annotation]:
    """Annotations of the content that their videos have now, as each file has them. Arguments and errors as `entries`."""
    return [e.annotation for e in entries(workspace, on_damage) if not e.is_stale]


def once(workspace: Workspace, on_damage: Callable[[str], None] | None = None) -> list[Annotation]:
    """`load`, of those that several files have the first, or the one that names its split."""
    return deduplicate(load(workspace, on_damage))


def deduplicate(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Annotations without those that several files have of one video and time; of equal ones, the one that names its split."""
    found: dict[tuple[object, ...], Annotation] = {}
    for a in annotations:
        said = CaptionEntry(a).said
        if said not in found or (a.split and not found[said].split):
            found[said] = a
    return list(found.values())


def lines(workspace: Workspace) -> list[bytes]:
    """The lines of the captions file, each with its newline; none where there is no file."""
    try:
        return workspace.captions.read_bytes().splitlines(keepends=True) if workspace.captions.is_file() else []
    except OSError as error:
        raise CacheError(f"{workspace.captions} cannot be read: {error.strerror or error}") from error


def decoded(line: bytes, source: str, workspace: Workspace) -> tuple[CaptionEntry, bool, bool]:
    """The entry of a line, whether it has a file's digest, and whether it has a checksum; raises CacheError if it is damaged."""
    stored = atomic.unsealed(line, source, _WAY_ON)
    try:
        entry = CaptionEntry.from_json(stored.value, workspace)
    except (AnnotationError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise CacheError(f"{source} is damaged ({error})", hint=_WAY_ON) from error
    # Without a checksum nothing else tells a damaged key from one that is empty.
    if not stored.is_checked and (unknown := set(stored.value) - _KEYS):
        raise CacheError(f"{source} is damaged (it has the key {min(unknown)!r})", hint=_WAY_ON)
    return entry, "digest" in stored.value, stored.is_checked


def keep_lines(workspace: Workspace, kept: Iterable[bytes]) -> None:
    """Let the captions file hold these lines and no others."""
    atomic.write_bytes(workspace.captions, b"".join(kept))


def rename(workspace: Workspace, names: Mapping[str, str]) -> None:
    """Let captions of a video that was renamed follow it: `names` maps old to new."""
    stored = entries(workspace)
    if any(e.video in names for e in stored):
        _write(workspace, [_moved(e, names.get(e.video, e.video)) for e in stored])


def settle(workspace: Workspace, contents: Mapping[str, str], changed: Collection[str] = ()) -> list[CaptionEntry]:
    """Move every row to the video that has the content that it was given for, or mark it stale where none has.

    Args:
        workspace: whose rows.
        contents: digest of the content of each video, by id.
        changed: videos whose content is another than before; rows whose content is not known are stale then.

    Returns:
        The rows that became stale.
    """
    holders = {content: video for video, content in sorted(contents.items(), reverse=True)}
    stored = entries(workspace)
    settled = [_settled(workspace, e, contents, holders, changed) for e in stored]
    if settled != stored:
        _write(workspace, settled)
    return [now for before, now in zip(stored, settled, strict=True) if now.is_stale and not before.is_stale]


def _settled(
    workspace: Workspace,
    e: CaptionEntry,
    contents: Mapping[str, str],
    holders: Mapping[str, str],
    changed: Collection[str],
) -> CaptionEntry:
    now = contents.get(e.video)
    if not e.content:
        if now is None or e.is_stale:
            return e
        return replace(e, is_stale=True) if e.video in changed else replace(e, content=now)
    if now == e.content:
        return replace(e, is_stale=False)
    if e.content in holders and (now is not None or not os.path.lexists(workspace.video_path(e.video))):
        return replace(_moved(e, holders[e.content]), is_stale=False)
    return e if now is None else replace(e, is_stale=True)


def add(
    workspace: Workspace,
    annotations: Iterable[Annotation],
    contents: Mapping[str, str] | None = None,
    *,
    is_beside: bool = False,
    sources: Iterable[str] = (),
) -> int:
    """Keep `annotations`; all rows that their sources gave before are replaced.

    Args:
        workspace: where.
        annotations: `source` is the path of the file that each is from.
        contents: digest of the content of each video, by id.
        is_beside: the files lie beside their videos.
        sources: paths of files that gave nothing now, and whose rows of before go, too.

    Returns:
        How many rows the workspace has now, without stale ones.
    """
    given = list(annotations)
    paths = dict.fromkeys([*(a.source for a in given), *sources])
    names = {path: _from_root(path if is_beside else _real(path), workspace) for path in paths}
    digests = {path: _digest(path) for path in paths}
    new = [
        CaptionEntry(
            replace(a, source=names[a.source]), digests[a.source], (contents or {}).get(a.video, ""), is_beside
        )
        for a in given
    ]
    replaced, said = set(names.values()), {(e.digest, e.said) for e in new}
    # Earlier versions kept no digests: what they have of a file under its old name is known by what it says alone.
    said |= {("", e.said) for e in new}
    kept = [e for e in entries(workspace) if e.source not in replaced and (e.digest, e.said) not in said]
    if new or paths:
        _write(workspace, [*kept, *new])
    return sum(not e.is_stale for e in (*kept, *new))


def drop(workspace: Workspace, is_gone: Callable[[CaptionEntry], bool]) -> list[CaptionEntry]:
    """Forget the rows of which `is_gone` is true, and return them."""
    stored = entries(workspace)
    gone = [e for e in stored if is_gone(e)]
    if gone:
        _write(workspace, [e for e in stored if e not in set(gone)])
    return gone


def _moved(entry: CaptionEntry, video: str) -> CaptionEntry:
    return replace(entry, annotation=replace(entry.annotation, video=video))


def _real(path: str) -> str:
    return os.path.realpath(path) if Path(path).is_absolute() else path


def _from_root(path: str, workspace: Workspace) -> str:
    """`path` from the workspace's folder if it lies below, however one gets there; any other as it is."""
    if not Path(path).is_absolute():
        return path
    for root in (os.path.realpath(workspace.root), os.path.abspath(workspace.root)):  # noqa: PTH100
        if path.startswith(root.rstrip(os.sep) + os.sep):
            return Path(path).relative_to(root).as_posix()
    return Path(path).as_posix()


def _digest(path: str) -> str:
    """32 hexadecimal digits of the bytes of a file; empty where there is no regular file."""
    if not Path(path).is_absolute() or not os.path.isfile(path):  # noqa: PTH113
        return ""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""


def _write(workspace: Workspace, stored: Iterable[CaptionEntry]) -> None:
    keep_lines(workspace, (atomic.sealed(e.to_json(), indent=None, digits=16) for e in stored))
