"""`info`, `ls`, `rm`, `gc`: what a workspace holds, and how to be rid of parts of it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.cache.maintenance import unused_shards
from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache, active_cache
from vla.captions import store as caption_store
from vla.errors import CacheError, MissingError, VlaError
from vla.features import IMPORTED
from vla.hints import Hint, Note
from vla.indexing.store import summary, unused_files
from vla.naming.matching import Names
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.training.checkpoint import open_run
from vla.training.checkpoint import unused_files as unused_weights


@dataclass(frozen=True)
class Entry:
    """A video of the workspace.

    Attributes:
        receipt: what became of it.
        captions: annotations that are about it.
        is_missing: its file is no longer where it was; its features still are.
    """

    receipt: Receipt
    captions: int
    is_missing: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        r = self.receipt
        return {
            "video": r.video_id, "status": r.status, "reason": r.reason, "seconds": r.duration_seconds, "frames": r.frames,
            "coverage": r.coverage, "codec": r.codec, "captions": self.captions, "missing": self.is_missing,
        }  # fmt: skip


def list_videos(
    patterns: Iterable[str] = (), *, workspace: Path | None = None, progress: ProgressCallback = silent
) -> list[Entry]:
    """The workspace's videos, all or those that a name, a path or a glob pattern in `patterns` fits; by name.

    `progress` is called with a warning where receipts or captions are damaged; these are left out.

    Raises:
        MissingError: there are no features, or a pattern fits no video.
    """
    place = Workspace.open(workspace)
    cache = active_cache(place.caches)
    tell_damage(cache, progress)

    def on_damage(told: str) -> None:
        progress(Progress("captions", message=told, level="warning"))

    captions = Counter(a.video for a in caption_store.load(place, on_damage))
    return [
        Entry(cache.receipts[v], captions[v], _is_missing(cache, place, v))
        for v in chosen_videos(cache, place, list(patterns))
    ]


def tell_damage(cache: FeatureCache, progress: ProgressCallback) -> None:
    """Say how many receipts of `cache` are damaged: their videos count as never extracted."""
    _ = cache.receipts
    if cache.damaged:
        told = Note(f"{len(cache.damaged)} receipts are damaged and count as none", Hint("verify"))
        progress(Progress("cache", message=told, level="warning"))


def remove(
    patterns: Iterable[str],
    *,
    workspace: Path | None = None,
    missing: bool = False,
    dry_run: bool = False,
    progress: ProgressCallback = silent,
) -> list[str]:
    """Forget videos: their features go, the videos themselves and their captions stay. Returns their names.

    Args:
        patterns: as for `list_videos`.
        workspace: as for `search`.
        missing: also forget every video whose file is gone.
        dry_run: only say which.
        progress: called if another process holds the workspace.
    """
    place = Workspace.open(workspace)
    given = list(patterns)
    with place.locked(progress, reading=dry_run):
        cache = active_cache(place.caches)
        names = chosen_videos(cache, place, given) if given else []
        if missing:
            names += [v for v in cache.receipts if v not in names and _is_missing(cache, place, v)]
        for name in () if dry_run else names:
            cache.forget(name)
    return names


def gc(
    *, workspace: Path | None = None, all_caches: bool = False, progress: ProgressCallback = silent
) -> tuple[int, int]:
    """Delete what nothing refers to: in the features of every encoder, the runs and the index. Returns how many files and bytes.

    What a damaged record may refer to stays.

    Args:
        workspace: as for `search`.
        all_caches: also delete the features of encoders that the workspace no longer uses.
        progress: called if another process holds the workspace, and with a warning for features whose description is damaged,
            which are left alone.
    """
    place = Workspace.open(workspace)
    with place.locked(progress), place.locked_index(progress):
        current = active_cache(place.caches)
        folders = [p for p in place.caches.iterdir() if p.is_dir()]
        others = [p for p in folders if p != current.folder]
        # Temporary files of every writer: all of them hold a lock that is held here.
        doomed = {*place.home.rglob(f"{atomic.TEMPORARY}*"), *unused_files(place.index)}
        for folder in place.runs.glob("*"):
            doomed |= set(unused_weights(folder))
        for folder in folders:
            if all_caches and folder in others:
                doomed |= {p for p in folder.rglob("*") if p.is_file()}
                continue
            try:
                doomed |= set(unused_shards(FeatureCache.open(folder)))
            except MissingError:
                continue
            except CacheError as error:
                note = Note(f"{error}; its features are left alone", error.hint)
                progress(Progress("gc", message=note, level="warning"))
        freed = sum(p.lstat().st_size for p in doomed)
        for path in sorted(doomed):
            atomic.remove(path)
        for folder in others if all_caches else ():
            shutil.rmtree(folder, ignore_errors=True)  # empty folders by now
    return len(doomed), freed


def info(*, workspace: Path | None = None) -> dict[str, Any]:
    """What the workspace holds, as a JSON object: features, captions, runs and index."""
    place = Workspace.open(workspace)
    found: dict[str, Any] = {"workspace": str(place.root), "bytes": _size(place.home)}
    damaged_captions: list[str] = []
    annotations = caption_store.load(place, damaged_captions.append)
    found["captions"] = {
        "total": len(annotations),
        "timed": sum(bool(a.spans) for a in annotations),
        "videos": len({a.video for a in annotations}),
        "damaged": len(damaged_captions),
    }
    try:
        cache = active_cache(place.caches)
    except MissingError:
        return {**found, "features": None, "runs": {}, "index": None}
    receipts = list(cache.receipts.values())
    found["features"] = {
        "model": cache.spec.model if cache.spec.is_imported else cache.source.model or cache.spec.model,
        "pretrained": "" if cache.spec.is_imported else cache.source.pretrained,
        "imported": cache.spec.is_imported,
        "text_encoder": cache.source.model if cache.source.encoder != IMPORTED else None,
        "sampling": cache.spec.sampling,
        "dim": cache.spec.dim,
        "fingerprint": cache.spec.fingerprint,
        "videos": dict(Counter(r.status for r in receipts)),
        "missing": sum(_is_missing(cache, place, r.video_id) for r in receipts),
        "damaged": len(cache.damaged),
        "frames": sum(r.frames for r in receipts),
        "seconds": sum(r.duration_seconds for r in receipts if r.has_features),
        "bytes": _size(cache.folder),
        "other_caches": sum(p.is_dir() and p != cache.folder for p in place.caches.iterdir()),
    }
    found["runs"] = {p.name: _run(p, cache) for p in sorted(place.runs.glob("*")) if p.is_dir()}
    found["index"] = _index(place, cache)
    return found


def _run(folder: Path, cache: FeatureCache) -> dict[str, Any]:
    try:
        run = open_run(folder)
    except MissingError:
        return {"state": "unfinished"}
    except CacheError as error:
        return {"state": Note(f"damaged: {error}", error.hint)}
    fits = run.spec.fingerprint == cache.spec.fingerprint
    state = "finished" if fits else "of other features"
    return {"state": state, "beats frozen": run.is_better, "verdict": run.verdict, "digest": run.digest}


def _index(place: Workspace, cache: FeatureCache) -> dict[str, Any] | None:
    try:
        index = summary(place.index)
    except MissingError:
        return None
    except VlaError as error:
        return {"state": Note(f"damaged: {error}", error.hint)}
    fresh = index.spec.fingerprint == cache.spec.fingerprint and index.cache_state == cache.state()
    fresh = fresh and (not index.run or _digest(place.runs / index.run) == index.run_digest)
    return {
        "state": "up to date" if fresh else Note("out of date", Hint("index")),
        "videos": index.videos, "segments": index.segments, "run": index.run, "backend": index.backend,
    }  # fmt: skip


def _digest(folder: Path) -> str:
    """Of a run's weights; empty where the run cannot be opened."""
    try:
        return open_run(folder).digest
    except VlaError:
        return ""


def _is_missing(cache: FeatureCache, place: Workspace, video_id: str) -> bool:
    """True if the video is gone. Of imported features the videos need never have been here."""
    return not cache.spec.is_imported and not os.path.lexists(place.video_path(video_id))


def chosen_videos(cache: FeatureCache, place: Workspace, patterns: list[str]) -> list[str]:
    """Names of the cached videos that `patterns` fit, all without patterns; in order of name.

    Raises:
        MissingError: a pattern fits none.
        UsageError: a bare name fits several.
    """
    known = list(cache.receipts)
    if not patterns:
        return known
    names = Names(known, place.root)
    fits = {pattern: names.chosen(pattern, place.root, Path.cwd(), any_folder=True) for pattern in patterns}
    unknown = [pattern for pattern, chosen in fits.items() if not chosen]
    if unknown:
        raise MissingError(f"no extracted video fits {', '.join(unknown)}", hint=Hint("list_videos"))
    chosen = {video for some in fits.values() for video in some}
    return [v for v in known if v in chosen]


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
