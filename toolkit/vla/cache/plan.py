"""Plan of an extraction, made without decoding, so that it can be shown before it is carried out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vla.cache.discovery import find_files as find_files
from vla.cache.discovery import find_videos as find_videos
from vla.cache.receipts import Receipt, content_digest, file_digest
from vla.cache.store import FeatureCache
from vla.progress import Progress, ProgressCallback, silent
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class Plan:
    """Sorting of videos by the work that they need.

    Attributes:
        todo: id and path of the videos to extract.
        updates: receipts of touched files with unchanged content.
        renamed: receipts of renamed files, by the old name, which no longer exists.
        copies: receipts of copies of files that still exist.
        done: receipts of files that need no work, of any status.
    """

    todo: list[tuple[str, Path]]
    updates: list[Receipt]
    renamed: dict[str, Receipt]
    copies: list[Receipt]
    done: list[Receipt]


def make_plan(
    cache: FeatureCache,
    videos: Iterable[Path],
    workspace: Workspace,
    *,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
) -> Plan:
    """Sort `videos` into those that need work and those that do not.

    A file with the size and time of its receipt counts as unchanged. If either differs, or the name is
    new, the whole file is read before its features are reused: different videos may agree in head, tail
    and size.
    """
    plan = Plan([], [], {}, [], [])
    planned_ids: set[str] = set()
    receipts_by_size = _group_by_size(cache)
    videos = list(videos)
    for number, path in enumerate(videos, 1):
        progress(Progress("look", number, len(videos)))
        video_id = workspace.video_id(path)
        if video_id in planned_ids:
            continue
        planned_ids.add(video_id)
        receipt = cache.receipts.get(video_id)
        if receipt is None and not overwrite:
            duplicate = _find_duplicate(cache, path, receipts_by_size, workspace)
            if duplicate is not None:
                _reuse(plan, duplicate, video_id, workspace)
                continue
        if (
            receipt is None
            or overwrite
            or not receipt.is_final
            or (retry_failed and receipt.status != "ok")
        ):
            plan.todo.append((video_id, path))
            continue
        is_lost = receipt.has_features and not _has_shard(cache, receipt)
        new_receipt = None if is_lost else _refresh(path, receipt)
        if new_receipt is None:
            plan.todo.append((video_id, path))
        elif new_receipt != receipt:
            plan.updates.append(new_receipt)
        else:
            plan.done.append(receipt)
    return plan


def _refresh(path: Path, receipt: Receipt) -> Receipt | None:
    """Return the receipt with the current time of an unchanged file; None if its content changed."""
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (receipt.size, receipt.mtime_ns):
            return receipt
        if receipt.digest and status.st_size == receipt.size and _digest(path) == receipt.digest:
            return replace(receipt, mtime_ns=status.st_mtime_ns)
    except OSError:
        return None
    return None


def _group_by_size(cache: FeatureCache) -> dict[int, list[Receipt]]:
    """Group the receipts with features by file size."""
    groups: dict[int, list[Receipt]] = {}
    for receipt in cache.receipts.values():
        if receipt.has_features:
            groups.setdefault(receipt.size, []).append(receipt)
    return groups


def _find_duplicate(
    cache: FeatureCache,
    path: Path,
    receipts_by_size: dict[int, list[Receipt]],
    workspace: Workspace,
) -> Receipt | None:
    """Return the receipt, with the file's time, of a file of equal content whose features are cached."""
    try:
        status = path.stat()
        # Only regular files are read: a FIFO would never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size not in receipts_by_size:
            return None
        content = content_digest(path, status.st_size)
        candidates = [
            r
            for r in receipts_by_size[status.st_size]
            if r.content == content and _has_shard(cache, r)
        ]
        digest = _digest(path) if candidates else ""
    except OSError:
        return None
    for receipt in candidates:
        if digest == (receipt.digest or _recomputed_digest(receipt, workspace)):
            return replace(receipt, mtime_ns=status.st_mtime_ns, digest=digest)
    return None


def _recomputed_digest(receipt: Receipt, workspace: Workspace) -> str:
    """Return the digest of a file whose receipt, of an older version, has none; empty if the file changed."""
    path = workspace.video_path(receipt.video_id)
    try:
        status = path.stat()
        is_unchanged = (status.st_size, status.st_mtime_ns) == (receipt.size, receipt.mtime_ns)
        return _digest(path) if is_unchanged else ""
    except OSError:
        return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file)


def missing_files(cache: FeatureCache, workspace: Workspace, folders: Iterable[Path]) -> list[str]:
    """Return the names of videos below `folders` that have features, but whose file is gone."""
    # PTH100: like names, without following links.
    roots = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100
    return [
        name
        for name in cache.video_ids()
        if any(workspace.video_path(name).is_relative_to(root) for root in roots)
        and not os.path.lexists(workspace.video_path(name))
    ]


def _has_shard(cache: FeatureCache, receipt: Receipt) -> bool:
    return (cache.folder / "shards" / receipt.shard).is_file()


def _reuse(plan: Plan, duplicate: Receipt, video_id: str, workspace: Workspace) -> None:
    receipt = replace(duplicate, video_id=video_id)
    old_name = duplicate.video_id
    if old_name not in plan.renamed and not os.path.lexists(workspace.video_path(old_name)):
        plan.renamed[old_name] = receipt
    else:
        plan.copies.append(receipt)
