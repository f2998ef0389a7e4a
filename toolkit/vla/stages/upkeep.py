"""`info`, `ls`, `verify`, `rm`, `gc`: what a workspace holds, whether it is sound, and how to be rid of parts of it."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla import durable
from vla.cache import captions as caption_store
from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache, current_cache
from vla.cache.upkeep import Damage, repair, unused_shards
from vla.cache.upkeep import verify as verify_cache
from vla.errors import CacheError, MissingError, VlaError
from vla.progress import Progress, ProgressCallback, silent
from vla.search.store import check_index, summary, unused_files
from vla.stages.texts import has_encoder
from vla.workspace import Workspace


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


def list_videos(patterns: Iterable[str] = (), *, workspace: Path | None = None) -> list[Entry]:
    """The workspace's videos, all or those that a name, a path or a glob pattern in `patterns` fits; by name.

    Raises:
        MissingError: there are no features, or a pattern fits no video.
    """
    place = Workspace.open(workspace)
    cache = current_cache(place.caches)
    captions = Counter(a.video for a in caption_store.load(place))
    return [
        Entry(cache.receipts[v], captions[v], _is_missing(cache, place, v))
        for v in chosen_videos(cache, place, list(patterns))
    ]


def remove(
    patterns: Iterable[str], *, workspace: Path | None = None, missing: bool = False, dry_run: bool = False
) -> list[str]:
    """Forget videos: their features go, the videos themselves and their captions stay. Returns their names.

    Args:
        patterns: as for `list_videos`.
        workspace: as for `search`.
        missing: also forget every video whose file is gone.
        dry_run: only say which.
    """
    place = Workspace.open(workspace)
    given = list(patterns)
    with place.locked(silent):
        cache = current_cache(place.caches)
        names = chosen_videos(cache, place, given) if given else []
        if missing:
            names += [v for v in cache.receipts if v not in names and _is_missing(cache, place, v)]
        for name in () if dry_run else names:
            cache.forget(name)
    return names


def verify(
    *, workspace: Path | None = None, read_data: bool = False, mend: bool = False, progress: ProgressCallback = silent
) -> list[Damage]:
    """What is damaged in the workspace's features and, where everything is read, in its index.

    Args:
        workspace: as for `search`.
        read_data: read everything and compare checksums, not only look whether it is there.
        mend: forget what is damaged, so that the next `extract` (or `index`) makes it anew.
        progress: called for each video.
    """
    place = Workspace.open(workspace)
    with place.locked(progress):
        cache = current_cache(place.caches)
        found = verify_cache(
            cache, read_data=read_data, on_item=lambda n, total: progress(Progress("verify", n, total))
        )
        if mend:
            repair(cache, found)
    return found + (_damaged_index(place, mend) if read_data else [])


def _damaged_index(place: Workspace, mend: bool) -> list[Damage]:
    """What is wrong with the index, if there is one; with `mend` it is forgotten."""
    with place.locked_index(silent):
        try:
            check_index(place.index)
        except MissingError:
            return []
        except CacheError as error:
            if mend:
                durable.remove(place.index / "index.json")
            return [Damage("the index", str(error))]
    return []


def collect(*, workspace: Path | None = None, all_caches: bool = False) -> tuple[int, int]:
    """Delete what nothing refers to. Returns how many files, and how many bytes.

    Args:
        workspace: as for `search`.
        all_caches: also delete the features of encoders that the workspace no longer uses.
    """
    place = Workspace.open(workspace)
    with place.locked(silent), place.locked_index(silent):
        current = current_cache(place.caches)
        others = [p for p in place.caches.iterdir() if p.is_dir() and p != current.folder]
        # Temporary files of every writer: all of them hold a lock that is held here.
        doomed = {*place.home.rglob(f"{durable.TEMPORARY}*"), *unused_shards(current), *unused_files(place.index)}
        for folder in others:
            if all_caches:
                doomed |= {p for p in folder.rglob("*") if p.is_file()}
            elif (folder / "spec.json").is_file():
                doomed |= set(unused_shards(FeatureCache.open(folder)))
        freed = sum(p.lstat().st_size for p in doomed)
        for path in sorted(doomed):
            durable.remove(path)
        for folder in others if all_caches else ():
            shutil.rmtree(folder, ignore_errors=True)  # empty folders by now
    return len(doomed), freed


def info(*, workspace: Path | None = None) -> dict[str, Any]:
    """What the workspace holds, as a JSON object: features, captions, runs and index."""
    place = Workspace.open(workspace)
    found: dict[str, Any] = {"workspace": str(place.root), "bytes": _size(place.home)}
    annotations = caption_store.load(place)
    found["captions"] = {
        "total": len(annotations),
        "timed": sum(bool(a.spans) for a in annotations),
        "videos": len({a.video for a in annotations}),
    }
    try:
        cache = current_cache(place.caches)
    except MissingError:
        return {**found, "features": None, "runs": {}, "index": None}
    receipts = list(cache.receipts.values())
    found["features"] = {
        "model": cache.spec.model if cache.spec.is_imported else cache.source.model or cache.spec.model,
        "pretrained": "" if cache.spec.is_imported else cache.source.pretrained,
        "imported": cache.spec.is_imported,
        "text_encoder": cache.source.model if has_encoder(cache) else None,
        "sampling": cache.spec.sampling,
        "dim": cache.spec.dim,
        "fingerprint": cache.spec.fingerprint,
        "videos": dict(Counter(r.status for r in receipts)),
        "missing": sum(_is_missing(cache, place, r.video_id) for r in receipts),
        "frames": sum(r.frames for r in receipts),
        "seconds": sum(r.duration_seconds for r in receipts if r.has_features),
        "bytes": _size(cache.folder),
        "other_caches": sum(p.is_dir() and p != cache.folder for p in place.caches.iterdir()),
    }
    found["runs"] = {p.name: _run(p, cache) for p in sorted(place.runs.glob("*")) if p.is_dir()}
    found["index"] = _index(place, cache)
    return found


def _run(folder: Path, cache: FeatureCache) -> dict[str, Any]:
    from vla.train.checkpoint import open_run  # loads torch, which nothing else here needs

    try:
        run = open_run(folder)
    except MissingError:
        return {"state": "unfinished"}
    except CacheError as error:
        return {"state": f"damaged: {error}"}
    fits = run.spec.fingerprint == cache.spec.fingerprint
    state = "finished" if fits else "of other features"
    return {"state": state, "beats frozen": run.is_better, "verdict": run.verdict, "digest": run.digest}


def _index(place: Workspace, cache: FeatureCache) -> dict[str, Any] | None:
    try:
        index = summary(place.index)
    except MissingError:
        return None
    except VlaError as error:
        return {"state": f"damaged: {error}"}
    fresh = index.spec.fingerprint == cache.spec.fingerprint and index.cache_state == cache.state()
    return {
        "state": "up to date" if fresh else "out of date: run 'vla index'",
        "videos": index.videos, "segments": index.segments, "run": index.run, "backend": index.backend,
    }  # fmt: skip


def _is_missing(cache: FeatureCache, place: Workspace, video_id: str) -> bool:
    """True if the video is gone. Of imported features the videos need never have been here."""
    return not cache.spec.is_imported and not os.path.lexists(place.video_path(video_id))


def chosen_videos(cache: FeatureCache, place: Workspace, patterns: list[str]) -> list[str]:
    """Names of the cached videos that `patterns` fit, all without patterns; in order of name.

    Raises:
        MissingError: a pattern fits none.
    """
    known = list(cache.receipts)
    if not patterns:
        return known
    chosen: dict[str, None] = {}
    unknown = []
    for pattern in patterns:
        path = place.video_id(Path(pattern))
        fits = [v for v in known if v in (pattern, path) or v.startswith(f"{path}/") or fnmatch.fnmatchcase(v, pattern)]
        if not fits:
            unknown.append(pattern)
        chosen.update(dict.fromkeys(fits))
    if unknown:
        raise MissingError(f"no extracted video fits {', '.join(unknown)}: 'vla ls' lists those there are")
    return [v for v in known if v in chosen]


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
