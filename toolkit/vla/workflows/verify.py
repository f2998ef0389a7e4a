"""`verify`: every file of a workspace is looked at, and what is damaged can be removed, so that it is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from vla.cache.maintenance import Check, Corruption, checks
from vla.cache.store import FeatureCache, active_cache
from vla.captions import store as caption_store
from vla.errors import CacheError, MissingError
from vla.hints import Hint
from vla.indexing.store import check_index, open_index
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.hubness_store import check_hubness, delete_hubness
from vla.storage import atomic, records
from vla.storage.workspace import SCHEMA, Workspace
from vla.workflows.encoder_choice import REMEMBERED


def verify(
    *, workspace: Path | None = None, read_data: bool = False, mend: bool = False, progress: ProgressCallback = silent
) -> list[Corruption]:
    """What is damaged in the workspace: records, captions, features of every encoder, runs and their states, index, background.

    Records and captions are read and their checksums compared always; features, weights and vectors with `read_data`. Nothing is
    written without `mend`, so a workspace that cannot be written is verified as any other.

    Args:
        workspace: as for `search`.
        read_data: read everything, not only look whether it is there.
        mend: remove what is damaged, so that the command that made it makes it anew.
        progress: called for each file; with a note on how many records have no checksum because an older version wrote them.

    Raises:
        MissingError: there is no workspace.
    """
    place = Workspace.open(workspace, check=False)
    with place.locked(progress) if mend else nullcontext(), place.locked_index(silent) if mend else nullcontext():
        found = _damaged(place, read_data, progress)
        if found and not mend and place.is_busy():
            # Another process may have replaced what was being read.
            names = {d.name for d in _damaged(place, read_data, silent)}
            found = [d for d in found if d.name in names]
        for damage in found if mend else ():
            if damage.mend is not None:
                damage.mend()
    if unchecked := sum(_is_unchecked(path) for path in place.home.rglob("*.json")):
        told = f"{unchecked:,} records have no checksum, because an older version wrote them: their types and ranges are right"
        progress(Progress("verify", message=told, level="note"))
    return found


def _damaged(place: Workspace, read_data: bool, progress: ProgressCallback) -> list[Corruption]:
    listed = [*_workspace(place), *_caches(place, read_data), *_runs(place, read_data), *_index(place, read_data)]
    found: list[Corruption] = []
    for number, check in enumerate(listed, 1):
        found += check.damage()
        progress(Progress("verify", number, len(listed)))
    return found


def _workspace(place: Workspace) -> Iterator[Check]:
    description = place.home / "workspace.json"
    yield Check("workspace.json", place.check, partial(atomic.write_json, description, {"schema": SCHEMA}))
    lines = caption_store.lines(place)
    damaged = [n for n, line in enumerate(lines) if not _is_caption(line, place)]
    whole = [line for n, line in enumerate(lines) if n not in set(damaged)]
    mend = partial(caption_store.keep_lines, place, whole)
    for n in damaged:
        yield Check(
            f"captions.jsonl, line {n + 1}", partial(caption_store.decoded, lines[n], f"line {n + 1}", place), mend
        )


def _is_caption(line: bytes, place: Workspace) -> bool:
    try:
        caption_store.decoded(line, "", place)
    except CacheError:
        return False
    return True


def _caches(place: Workspace, read_data: bool) -> Iterator[Check]:
    for folder in sorted(p for p in place.caches.glob("*") if p.is_dir()):
        name = f"cache/{folder.name}/spec.json"
        try:
            cache = FeatureCache.open(folder)
        except MissingError:
            continue
        except CacheError:
            # Without it its features mean nothing, and extraction writes it anew.
            yield Check(name, partial(FeatureCache.open, folder), partial(atomic.remove, folder / "spec.json"))
            continue
        yield from checks(cache, place.home, read_data=read_data)
        for file in ("scale.json", REMEMBERED):
            path = folder / file
            if path.is_file():
                yield Check(f"cache/{folder.name}/{file}", partial(_kept_beside, path), partial(atomic.remove, path))
    # Last: what is removed before it may be what it points at.
    pointer = place.caches / "current.json"
    if pointer.is_file():
        yield Check("cache/current.json", partial(_current, place), partial(_point_anew, place))


def _current(place: Workspace) -> None:
    try:
        active_cache(place.caches)
    except MissingError as error:
        raise CacheError(
            f"{place.caches / 'current.json'} names features that are not here: {error}", hint=error.hint
        ) from error


def _point_anew(place: Workspace) -> None:
    """Point at the only features there are; where there are several, nothing tells which were meant."""
    folders = [p for p in place.caches.glob("*") if (p / "spec.json").is_file()]
    if len(folders) == 1:
        atomic.write_json(place.caches / "current.json", {"fingerprint": folders[0].name})
    else:
        atomic.remove(place.caches / "current.json")


def _kept_beside(path: Path) -> None:
    if path.name == REMEMBERED:
        atomic.read_record(path, Hint("load_again"))
    else:
        from vla.workflows.train import Scale

        records.load(Scale, path, Hint("train_again"))


def _runs(place: Workspace, read_data: bool) -> Iterator[Check]:
    from vla.evaluation import report_file
    from vla.training import checkpoint  # loads torch, which a workspace without runs does not need

    for folder in sorted(p for p in place.runs.glob("*") if p.is_dir()):
        name = f"runs/{folder.name}"
        if (folder / "run.json").is_file():
            look = partial(checkpoint.check_run if read_data else checkpoint.find_run, folder)
            yield Check(f"{name}/run.json", look, partial(atomic.remove, folder / "run.json"))
        if (folder / "progress.json").is_file():
            progress = folder / "progress.json"
            yield Check(
                f"{name}/progress.json", partial(checkpoint.check_state, folder), partial(atomic.remove, progress)
            )
        for path in report_file.report_files(folder):
            yield Check(f"{name}/{path.name}", partial(report_file.load_file, path), partial(atomic.remove, path))


def _index(place: Workspace, read_data: bool) -> Iterator[Check]:
    def look() -> None:
        try:
            check_index(place.index) if read_data else open_index(place.index, load=False)
        except MissingError:
            return

    yield Check("the index", look, partial(atomic.remove, place.index / "index.json"))
    yield Check("index/background.json", partial(check_hubness, place.index), partial(delete_hubness, place.index))


def _is_unchecked(path: Path) -> bool:
    if path.name.startswith(atomic.TEMPORARY):
        return False
    try:
        stored = atomic.read_record(path)
    except CacheError:
        return False
    return not stored.is_checked and bool(stored.value)
