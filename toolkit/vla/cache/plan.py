"""What there is to extract: found without decoding anything, so that it can be shown before it is done."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vla.cache.receipts import Receipt, content_digest
from vla.cache.store import FeatureCache
from vla.errors import UsageError
from vla.video import SUFFIXES
from vla.workspace import Workspace


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


def find_videos(paths: Iterable[str | Path]) -> list[Path]:
    """Video files in files, folders (recursively) and glob patterns; see `find_files`."""
    return find_files(paths, SUFFIXES)


def find_files(paths: Iterable[str | Path], suffixes: Collection[str]) -> list[Path]:
    """Files in files, folders (recursively) and glob patterns; each once, in order.

    In folders only files with one of `suffixes` count and hidden entries are passed over; a file that is named is taken
    whatever it is called. Links to folders are not followed, so loops cannot arise.

    Raises:
        UsageError: a path or pattern matches nothing; all such are named.
    """
    found: dict[Path, None] = {}
    missing: list[str] = []
    for given in paths:
        text = str(given)
        path = Path(text).expanduser()
        if text and os.path.lexists(path):
            matches = [path]
        elif any(c in text for c in "*?["):
            matches = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - absolute patterns
        else:
            matches = []
        if not matches:
            missing.append(text)
        for match in matches:
            if match.is_dir():
                found.update(dict.fromkeys(_in_folder(match, suffixes)))
            elif match == path or match.suffix.lower() in suffixes:
                found[match] = None
    if missing:
        raise UsageError(f"no such file, folder or pattern: {', '.join(missing)}")
    return list(found)


def make_plan(
    cache: FeatureCache,
    videos: Iterable[Path],
    workspace: Workspace,
    *,
    retry_failed: bool = False,
    overwrite: bool = False,
) -> Plan:
    """Sort `videos` into those that need work and those that do not."""
    plan = Plan([], [], {}, [], [])
    seen: set[str] = set()
    twins = _by_content(cache)
    for path in videos:
        video_id = workspace.video_id(path)
        if video_id in seen:
            continue
        seen.add(video_id)
        receipt = cache.receipts.get(video_id)
        if receipt is None and not overwrite and (known := _same_content(cache, path, twins)) is not None:
            _take_over(plan, known, video_id, workspace)
            continue
        if receipt is None or overwrite or (retry_failed and receipt.status != "ok"):
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
        if status.st_size == receipt.size and content_digest(path, receipt.size) == receipt.content:
            return replace(receipt, mtime_ns=status.st_mtime_ns)
    except OSError:
        return None
    return None


def _by_content(cache: FeatureCache) -> dict[int, list[Receipt]]:
    """Receipts with features, by the size of their files."""
    found: dict[int, list[Receipt]] = {}
    for receipt in cache.receipts.values():
        if receipt.has_features:
            found.setdefault(receipt.size, []).append(receipt)
    return found


def _same_content(cache: FeatureCache, path: Path, twins: dict[int, list[Receipt]]) -> Receipt | None:
    """The receipt of a file with this content under another name, brought up to date, if its features are there."""
    try:
        status = path.stat()
        # Only regular files are read: a FIFO would never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size not in twins:
            return None
        content = content_digest(path, status.st_size)
    except OSError:
        return None
    same = [r for r in twins[status.st_size] if r.content == content and _is_there(cache, r)]
    return replace(same[0], mtime_ns=status.st_mtime_ns) if same else None


def _is_there(cache: FeatureCache, receipt: Receipt) -> bool:
    return (cache.folder / "shards" / receipt.shard).is_file()


def _take_over(plan: Plan, known: Receipt, video_id: str, workspace: Workspace) -> None:
    receipt = replace(known, video_id=video_id)
    gone = known.video_id not in plan.renamed and not os.path.lexists(workspace.video_path(known.video_id))
    if gone:
        plan.renamed[known.video_id] = receipt
    else:
        plan.copied.append(receipt)


def _in_folder(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(parent) / name
