"""What there is to extract: found without decoding anything, so that it can be shown before it is done."""

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
    """Work to do.

    Attributes:
        todo: videos to extract, with the name each has in the workspace.
        renamed: receipts for files that hold what another name held, by that name; it is no longer there.
        copied: receipts for files that hold what another file holds, too.
        refreshed: receipts of files that were touched or copied but hold the same content.
        done: receipts of files that need no work, whatever their status.
    """

    todo: list[tuple[str, Path]]
    refreshed: list[Receipt]
    renamed: dict[str, Receipt]
    copied: list[Receipt]
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

    A file whose size and time are those of its receipt is taken as unchanged. Where either differs, or the name is new, the
    whole file is read before features are taken over: head, tail and size of different videos may agree.
    """
    plan = Plan([], [], {}, [], [])
    seen: set[str] = set()
    twins = _by_size(cache)
    videos = list(videos)
    for number, path in enumerate(videos, 1):
        progress(Progress("look", number, len(videos)))
        video_id = workspace.video_id(path)
        if video_id in seen:
            continue
        seen.add(video_id)
        receipt = cache.receipts.get(video_id)
        if receipt is None and not overwrite and (known := _same_content(cache, path, twins, workspace)) is not None:
            _take_over(plan, known, video_id, workspace)
            continue
        if receipt is None or overwrite or not receipt.is_final or (retry_failed and receipt.status != "ok"):
            plan.todo.append((video_id, path))
            continue
        lost = receipt.has_features and not _is_there(cache, receipt)
        refreshed = None if lost else _unchanged(path, receipt)
        if refreshed is None:
            plan.todo.append((video_id, path))
        elif refreshed != receipt:
            plan.refreshed.append(refreshed)
        else:
            plan.done.append(receipt)
    return plan


def _unchanged(path: Path, receipt: Receipt) -> Receipt | None:
    """The receipt, brought up to date, if the file still holds what it tells of; None if it must be extracted anew."""
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (receipt.size, receipt.mtime_ns):
            return receipt
        if receipt.digest and status.st_size == receipt.size and _digest(path) == receipt.digest:
            return replace(receipt, mtime_ns=status.st_mtime_ns)
    except OSError:
        return None
    return None


def _by_size(cache: FeatureCache) -> dict[int, list[Receipt]]:
    """Receipts with features, by the size of their files."""
    found: dict[int, list[Receipt]] = {}
    for receipt in cache.receipts.values():
        if receipt.has_features:
            found.setdefault(receipt.size, []).append(receipt)
    return found


def _same_content(
    cache: FeatureCache, path: Path, twins: dict[int, list[Receipt]], workspace: Workspace
) -> Receipt | None:
    """The receipt of a file with this content under another name, brought up to date, if its features are there."""
    try:
        status = path.stat()
        # Only regular files are read: a FIFO would never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size not in twins:
            return None
        content = content_digest(path, status.st_size)
        alike = [r for r in twins[status.st_size] if r.content == content and _is_there(cache, r)]
        digest = _digest(path) if alike else ""
    except OSError:
        return None
    for receipt in alike:
        if digest == (receipt.digest or _digest_of(receipt, workspace)):
            return replace(receipt, mtime_ns=status.st_mtime_ns, digest=digest)
    return None


def _digest_of(receipt: Receipt, workspace: Workspace) -> str:
    """Digest of the file that a receipt of an older version tells of; empty if it is not as it was then."""
    path = workspace.video_path(receipt.video_id)
    try:
        status = path.stat()
        same = (status.st_size, status.st_mtime_ns) == (receipt.size, receipt.mtime_ns)
        return _digest(path) if same else ""
    except OSError:
        return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file)


def missing_files(cache: FeatureCache, workspace: Workspace, folders: Iterable[Path]) -> list[str]:
    """Names of the videos below `folders` that have features, but no file any more."""
    roots = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - as names are made
    return [
        name
        for name in cache.video_ids()
        if any(workspace.video_path(name).is_relative_to(root) for root in roots)
        and not os.path.lexists(workspace.video_path(name))
    ]


def _is_there(cache: FeatureCache, receipt: Receipt) -> bool:
    return (cache.folder / "shards" / receipt.shard).is_file()


def _take_over(plan: Plan, known: Receipt, video_id: str, workspace: Workspace) -> None:
    receipt = replace(known, video_id=video_id)
    gone = known.video_id not in plan.renamed and not os.path.lexists(workspace.video_path(known.video_id))
    if gone:
        plan.renamed[known.video_id] = receipt
    else:
        plan.copied.append(receipt)
