"""`verify`: check every file of a workspace, and optionally remove corrupt ones so that they are
rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from vla.cache.encoder_records import SCALE_FILE, TEXT_TOWER_FILE, Scale
from vla.cache.maintenance import Check, Corruption, checks
from vla.cache.store import FeatureCache, active_cache
from vla.captions import store as caption_store
from vla.errors import CacheError, MissingError
from vla.hints import Hint
from vla.indexing.store import check_index, open_index
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.calibration_store import check_calibration, delete_calibration
from vla.storage import atomic, records
from vla.storage.workspace import SCHEMA, Workspace


def verify(
    *,
    workspace: Path | None = None,
    read_data: bool = False,
    repair: bool = False,
    progress: ProgressCallback = silent,
) -> list[Corruption]:
    """Return the corrupt parts of a workspace: records, captions, features, runs, training states,
    index, calibration.

    Checksums of records and captions are always compared; those of features, weights and vectors
    only with `read_data`. Without `repair` nothing is written, so that read-only workspaces can be
    verified.

    Args:
        workspace: as for `search`.
        read_data: read all data instead of checking that the files exist.
        repair: remove corrupt parts, so that the command that created them creates them again.
        progress: called for each file, and with a note about records without checksums, written by
            older versions.

    Raises:
        MissingError: there is no workspace.
    """
    ws = Workspace.open(workspace, check=False)
    with (
        ws.lock(progress) if repair else nullcontext(),
        ws.lock_index(silent) if repair else nullcontext(),
    ):
        corruptions = _find_corruption(ws, read_data, progress)
        if corruptions and not repair and ws.is_busy():
            # A concurrent process may have replaced files during the check.
            names = {d.name for d in _find_corruption(ws, read_data, silent)}
            corruptions = [d for d in corruptions if d.name in names]
        for corruption in corruptions if repair else ():
            if corruption.repair is not None:
                corruption.repair()
    if num_without_checksum := sum(_has_no_checksum(path) for path in ws.home.rglob("*.json")):
        note = f"{num_without_checksum:,} records of an older version have no checksum: only their types and ranges were checked"
        progress(Progress("verify", message=note, level="note"))
    return corruptions


def _find_corruption(
    workspace: Workspace, read_data: bool, progress: ProgressCallback
) -> list[Corruption]:
    all_checks = [
        *_workspace(workspace),
        *_caches(workspace, read_data),
        *_runs(workspace, read_data),
        *_index(workspace, read_data),
    ]
    corruptions: list[Corruption] = []
    for number, check in enumerate(all_checks, 1):
        corruptions += check.damage()
        progress(Progress("verify", number, len(all_checks)))
    return corruptions


def _workspace(workspace: Workspace) -> Iterator[Check]:
    description = workspace.home / "workspace.json"
    yield Check(
        "workspace.json",
        workspace.check,
        partial(atomic.write_json, description, {"schema": SCHEMA}),
    )
    lines = caption_store.lines(workspace)
    invalid_lines = [n for n, line in enumerate(lines) if not _is_caption(line, workspace)]
    valid_lines = [line for n, line in enumerate(lines) if n not in set(invalid_lines)]
    repair = partial(caption_store.write_lines, workspace, valid_lines)
    for n in invalid_lines:
        yield Check(
            f"captions.jsonl, line {n + 1}",
            partial(caption_store.parse_line, lines[n], f"line {n + 1}", workspace),
            repair,
        )


def _is_caption(line: bytes, workspace: Workspace) -> bool:
    try:
        caption_store.parse_line(line, "", workspace)
    except CacheError:
        return False
    return True


def _caches(workspace: Workspace, read_data: bool) -> Iterator[Check]:
    for folder in sorted(p for p in workspace.caches.glob("*") if p.is_dir()):
        name = f"cache/{folder.name}/spec.json"
        try:
            cache = FeatureCache.open(folder)
        except MissingError:
            continue
        except CacheError:
            # Features cannot be used without it; extraction writes it again.
            yield Check(
                name,
                partial(FeatureCache.open, folder),
                partial(atomic.remove, folder / "spec.json"),
            )
            continue
        yield from checks(cache, workspace.home, read_data=read_data)
        for file in (SCALE_FILE, TEXT_TOWER_FILE):
            path = folder / file
            if path.is_file():
                yield Check(
                    f"cache/{folder.name}/{file}",
                    partial(_check_cache_record, path),
                    partial(atomic.remove, path),
                )
    # Last: checks before this one may remove the cache that it points to.
    pointer = workspace.caches / "current.json"
    if pointer.is_file():
        yield Check(
            "cache/current.json",
            partial(_check_active_cache, workspace),
            partial(_repair_pointer, workspace),
        )


def _check_active_cache(workspace: Workspace) -> None:
    try:
        active_cache(workspace.caches)
    except MissingError as error:
        raise CacheError(
            f"{workspace.caches / 'current.json'} names features that are not here: {error}",
            hint=error.hint,
        ) from error


def _repair_pointer(workspace: Workspace) -> None:
    """Point to the only cache; if there are several, remove the pointer."""
    folders = [p for p in workspace.caches.glob("*") if (p / "spec.json").is_file()]
    if len(folders) == 1:
        atomic.write_json(workspace.caches / "current.json", {"fingerprint": folders[0].name})
    else:
        atomic.remove(workspace.caches / "current.json")


def _check_cache_record(path: Path) -> None:
    if path.name == TEXT_TOWER_FILE:
        atomic.read_record(path, Hint("load_again"))
    else:
        records.load(Scale, path, Hint("train_again"))


def _runs(workspace: Workspace, read_data: bool) -> Iterator[Check]:
    from vla.evaluation import report_file
    from vla.training import checkpoint

    for folder in sorted(p for p in workspace.runs.glob("*") if p.is_dir()):
        name = f"runs/{folder.name}"
        if (folder / "run.json").is_file():
            check = partial(checkpoint.check_run if read_data else checkpoint.find_run, folder)
            yield Check(f"{name}/run.json", check, partial(atomic.remove, folder / "run.json"))
        if (folder / "progress.json").is_file():
            progress = folder / "progress.json"
            yield Check(
                f"{name}/progress.json",
                partial(checkpoint.check_state, folder),
                partial(atomic.remove, progress),
            )
        for path in report_file.report_files(folder):
            yield Check(
                f"{name}/{path.name}",
                partial(report_file.load_file, path),
                partial(atomic.remove, path),
            )


def _index(workspace: Workspace, read_data: bool) -> Iterator[Check]:
    def check() -> None:
        try:
            check_index(workspace.index) if read_data else open_index(workspace.index, load=False)
        except MissingError:
            return

    yield Check("the index", check, partial(atomic.remove, workspace.index / "index.json"))
    yield Check(
        "index/calibration.json",
        partial(check_calibration, workspace.index),
        partial(delete_calibration, workspace.index),
    )


def _has_no_checksum(path: Path) -> bool:
    if path.name.startswith(atomic.TEMPORARY):
        return False
    try:
        record = atomic.read_record(path)
    except CacheError:
        return False
    return not record.has_checksum and bool(record.value)
