"""Folder of an export: its files and their videos, and what may already be in it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from vla.cache.store import FeatureCache
from vla.errors import UsageError
from vla.formats.base import WritableFormat
from vla.formats.npz import TEXTS
from vla.hints import Hint
from vla.language.plurals import plural
from vla.storage import atomic
from vla.storage.workspace import Workspace

_SHARD_BYTES = 512 << 20

# A temporary file that has not been modified for this long is left from an interrupted export.
_STALE_SECONDS = 3600.0


def assign_videos(
    cache: FeatureCache,
    names: list[str],
    keys: dict[str, str],
    writer: WritableFormat,
    per_shard: int,
) -> dict[str, list[str]]:
    """Return the videos of each file, by its name without suffix."""
    if not writer.holds_many:
        return {keys[v]: [v] for v in names}
    shards: list[list[str]] = []
    size = 0
    for video in names:
        video_bytes = cache.receipts[video].frames * cache.spec.dim * 4
        if not shards or len(shards[-1]) == per_shard or size + video_bytes > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(video)
        size += video_bytes
    return {f"{number:05d}": videos for number, videos in enumerate(shards)}


def check_folder(
    workspace: Workspace,
    folder: Path,
    files: Iterable[str],
    writer: WritableFormat,
    has_texts: bool,
    overwrite: bool,
) -> None:
    """Check that the files can be written into the folder, next to no other files of their kind.

    Raises:
        UsageError: they cannot, or some exist already.
    """
    if folder == workspace.home or workspace.home in folder.parents:
        raise UsageError(
            f"{folder} is inside the workspace's .vla folder: export to another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    targets = {name + suffix for name in files for suffix in writer.output_suffixes} | set(
        TEXTS if has_texts else ()
    )
    existing = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    if not overwrite and targets & existing:
        raise UsageError(
            f"{plural(len(targets & existing), 'file is', 'files are')} in {folder} already, e.g. "
            f"{min(targets & existing)}",
            hint=Hint("overwrite"),
        )
    shards = {
        n
        for n in existing
        if any(re.fullmatch(rf"\d{{5}}{re.escape(s)}", n) for s in writer.output_suffixes)
    }
    if writer.holds_many and shards - targets:
        raise UsageError(
            f"{folder} holds shards of a larger export, e.g. {min(shards - targets)}, which "
            f"readers would include: delete them, or export to another folder"
        )


def remove_stale_files(folder: Path, files: Iterable[str]) -> None:
    """Delete files of interrupted exports; recent ones may belong to an export that is running."""
    for parent in {folder, *((folder / name).parent for name in files)}:
        for path in parent.glob(f"{atomic.TEMPORARY}*"):
            is_ours = (
                re.fullmatch(re.escape(atomic.TEMPORARY) + "[0-9a-f]{12}", path.name) is not None
            )
            if is_ours and time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                atomic.unlink_quietly(path)
