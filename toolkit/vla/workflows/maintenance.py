"""`info`, `list_videos`, `remove`, `gc`: contents of a workspace, and deletion of parts of it."""

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
from vla.features import IMPORTED_ENCODER
from vla.hints import Hint, Note
from vla.indexing.index_record import summary, unused_files
from vla.language.plurals import plural
from vla.naming.matching import NameMatcher
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.training.checkpoint import open_run
from vla.training.checkpoint import unused_files as unused_weights


@dataclass(frozen=True)
class Entry:
    """A video of the workspace.

    Attributes:
        receipt: result of its extraction.
        captions: number of annotations.
        is_missing: whether its file no longer exists; its features do.
    """

    receipt: Receipt
    captions: int
    is_missing: bool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        r = self.receipt
        return {
            "video": r.video_id, "status": r.status, "reason": r.reason, "seconds": r.duration_seconds, "frames": r.frames,
            "coverage": r.coverage, "codec": r.codec, "captions": self.captions, "missing": self.is_missing,
        }  # fmt: skip


def list_videos(
    patterns: Iterable[str] = (),
    *,
    workspace: Path | None = None,
    progress: ProgressCallback = silent,
) -> list[Entry]:
    """Return the videos of the workspace, sorted by name: all, or those that match a name, path or
    glob pattern.

    Damaged receipts and captions are skipped, with a warning to `progress`.

    Raises:
        MissingError: there are no features, or a pattern matches no video.
    """
    ws = Workspace.open(workspace)
    cache = active_cache(ws.caches)
    warn_of_damage(cache, progress)

    def on_damage(message: str) -> None:
        progress(Progress("captions", message=message, level="warning"))

    captions = Counter(a.video for a in caption_store.load(ws, on_damage))
    return [
        Entry(cache.receipts[v], captions[v], _is_missing(cache, ws, v))
        for v in match_videos(cache, ws, list(patterns))
    ]


def warn_of_damage(cache: FeatureCache, progress: ProgressCallback) -> None:
    """Report the number of damaged receipts of `cache`; their videos count as not extracted."""
    _ = cache.receipts
    if cache.damaged:
        message = Note(
            f"{plural(len(cache.damaged), 'damaged receipt is', 'damaged receipts are')} ignored",
            Hint("verify"),
        )
        progress(Progress("cache", message=message, level="warning"))


def remove(
    patterns: Iterable[str],
    *,
    workspace: Path | None = None,
    missing: bool = False,
    dry_run: bool = False,
    progress: ProgressCallback = silent,
) -> list[str]:
    """Delete the features of videos; the videos themselves and their captions stay. Returns their
    names.

    Args:
        patterns: as for `list_videos`.
        workspace: as for `search`.
        missing: also delete features of videos whose file no longer exists.
        dry_run: only return the names.
        progress: called if another process holds the workspace lock.
    """
    ws = Workspace.open(workspace)
    patterns_list = list(patterns)
    with ws.lock(progress, reading=dry_run):
        cache = active_cache(ws.caches)
        names = match_videos(cache, ws, patterns_list) if patterns_list else []
        if missing:
            names += [v for v in cache.receipts if v not in names and _is_missing(cache, ws, v)]
        for name in () if dry_run else names:
            cache.delete_video(name)
    return names


def gc(
    *, workspace: Path | None = None, all_caches: bool = False, progress: ProgressCallback = silent
) -> tuple[int, int]:
    """Delete unreferenced files: of features, runs and the index. Returns the number of files and
    of bytes.

    Files that a damaged record may refer to stay.

    Args:
        workspace: as for `search`.
        all_caches: also delete the features of inactive encoders.
        progress: called if another process holds the workspace lock, and with a warning for
            features with a damaged description, which stay.
    """
    ws = Workspace.open(workspace)
    with ws.lock(progress), ws.lock_index(progress):
        current = active_cache(ws.caches)
        folders = [p for p in ws.caches.iterdir() if p.is_dir()]
        others = [p for p in folders if p != current.folder]
        # Temporary files of all writers: each writer holds one of the two locks.
        to_delete = {*ws.home.rglob(f"{atomic.TEMPORARY}*"), *unused_files(ws.index)}
        for folder in ws.runs.glob("*"):
            to_delete |= set(unused_weights(folder))
        for folder in folders:
            if all_caches and folder in others:
                to_delete |= {p for p in folder.rglob("*") if p.is_file()}
                continue
            try:
                to_delete |= set(unused_shards(FeatureCache.open(folder)))
            except MissingError:
                continue
            except CacheError as error:
                note = Note(f"{error}; its features are left alone", error.hint)
                progress(Progress("gc", message=note, level="warning"))
        num_bytes = sum(p.lstat().st_size for p in to_delete)
        for path in sorted(to_delete):
            atomic.remove(path)
        for folder in others if all_caches else ():
            shutil.rmtree(folder, ignore_errors=True)  # empty folders by now
    return len(to_delete), num_bytes


def info(*, workspace: Path | None = None) -> dict[str, Any]:
    """Return a summary of the workspace as a JSON object: features, captions, runs and index."""
    ws = Workspace.open(workspace)
    summary_of: dict[str, Any] = {"workspace": str(ws.root), "bytes": _size(ws.home)}
    damaged_captions: list[str] = []
    annotations = caption_store.load(ws, damaged_captions.append)
    summary_of["captions"] = {
        "total": len(annotations),
        "timed": sum(bool(a.spans) for a in annotations),
        "videos": len({a.video for a in annotations}),
        "damaged": len(damaged_captions),
    }
    try:
        cache = active_cache(ws.caches)
    except MissingError:
        return {**summary_of, "features": None, "runs": {}, "index": None}
    receipts = list(cache.receipts.values())
    summary_of["features"] = {
        "model": cache.spec.model
        if cache.spec.is_imported
        else cache.source.model or cache.spec.model,
        "pretrained": "" if cache.spec.is_imported else cache.source.pretrained,
        "imported": cache.spec.is_imported,
        "text_encoder": cache.source.model if cache.source.encoder != IMPORTED_ENCODER else None,
        "sampling": cache.spec.sampling,
        "dim": cache.spec.dim,
        "fingerprint": cache.spec.fingerprint,
        "videos": dict(Counter(r.status for r in receipts)),
        "missing": sum(_is_missing(cache, ws, r.video_id) for r in receipts),
        "damaged": len(cache.damaged),
        "frames": sum(r.frames for r in receipts),
        "seconds": sum(r.duration_seconds for r in receipts if r.has_features),
        "bytes": _size(cache.folder),
        "other_caches": sum(p.is_dir() and p != cache.folder for p in ws.caches.iterdir()),
    }
    summary_of["runs"] = {p.name: _run(p, cache) for p in sorted(ws.runs.glob("*")) if p.is_dir()}
    summary_of["index"] = _index(ws, cache)
    return summary_of


def _run(folder: Path, cache: FeatureCache) -> dict[str, Any]:
    try:
        run = open_run(folder)
    except MissingError:
        return {"state": "unfinished"}
    except CacheError as error:
        return {"state": Note(f"damaged: {error}", error.hint)}
    fits = run.spec.fingerprint == cache.spec.fingerprint
    state = "finished" if fits else "of other features"
    return {
        "state": state,
        "beats frozen": run.is_better,
        "verdict": run.verdict,
        "digest": run.digest,
    }


def _index(workspace: Workspace, cache: FeatureCache) -> dict[str, Any] | None:
    try:
        index = summary(workspace.index)
    except MissingError:
        return None
    except VlaError as error:
        return {"state": Note(f"damaged: {error}", error.hint)}
    fresh = index.spec.fingerprint == cache.spec.fingerprint and index.cache_state == cache.state()
    fresh = fresh and (not index.run or _run_digest(workspace.runs / index.run) == index.run_digest)
    return {
        "state": "up to date" if fresh else Note("out of date", Hint("index")),
        "videos": index.videos, "segments": index.segments, "run": index.run, "backend": index.backend,
    }  # fmt: skip


def _run_digest(folder: Path) -> str:
    """Return the digest of a run's weights; empty if the run cannot be opened."""
    try:
        return open_run(folder).digest
    except VlaError:
        return ""


def _is_missing(cache: FeatureCache, workspace: Workspace, video_id: str) -> bool:
    """Return whether the video file no longer exists; always False for imported features."""
    return not cache.spec.is_imported and not os.path.lexists(workspace.video_path(video_id))


def match_videos(cache: FeatureCache, workspace: Workspace, patterns: list[str]) -> list[str]:
    """Return the names of the cached videos that match `patterns`, or of all videos if it is
    empty; sorted by name.

    Raises:
        MissingError: a pattern matches no video.
        UsageError: a bare name matches several.
    """
    video_ids = list(cache.receipts)
    if not patterns:
        return video_ids
    names = NameMatcher(video_ids, workspace.root)
    matches_of = {
        pattern: names.select(pattern, workspace.root, Path.cwd(), any_folder=True)
        for pattern in patterns
    }
    patterns_without_match = [pattern for pattern, matches in matches_of.items() if not matches]
    if patterns_without_match:
        raise MissingError(
            f"no extracted video matches {', '.join(patterns_without_match)}",
            hint=Hint("list_videos"),
        )
    selection = {video for matches in matches_of.values() for video in matches}
    return [v for v in video_ids if v in selection]


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
