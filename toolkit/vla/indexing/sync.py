"""From cached features to an index of segments, which grows with the cache.

An index is brought up to date by what has changed: new videos are cut into segments and become new parts, a batch at a time;
what is gone or has another name is said in `index.json`. Each batch is committed, so a search finds what is there so far, and
a kill costs one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla.cache.store import FeatureCache
from vla.errors import CacheError, MissingError
from vla.features import FrameFeatures
from vla.hints import Hint, Note
from vla.indexes import registry as indexes
from vla.indexing.compaction import FLAT, FLAT_BYTES, compact_index, is_exact
from vla.indexing.config import IndexConfig
from vla.indexing.diff import IndexDiff, diff_index, drop_deleted, key_of
from vla.indexing.fragments import Fragment
from vla.indexing.segments import CUT, Segmenter, windows_and_changes
from vla.indexing.store import SearchIndex, remove_orphans, save_fragment, save_index
from vla.model import AlignmentModel, pool_segments
from vla.progress import Progress, ProgressCallback, silent

_DEPTH = 200


@dataclass(frozen=True)
class Model:
    """What makes vectors of features: a trained run's model with its name and digest, or the frozen encoder without."""

    aligned: AlignmentModel
    run: str = ""
    run_digest: str = ""


@dataclass(frozen=True)
class SyncReport:
    """An index that was brought up to date, with what was done.

    Attributes:
        index: as it lies on the disk now.
        changes: what was done to it; everything is new where it was built anew.
        merged: how many parts were made one; 0 if none.
        notes: what a person should know.
    """

    index: SearchIndex
    diff: IndexDiff
    merged: int = 0
    notes: list[str] = field(default_factory=list)


def build_index(
    cache: FeatureCache,
    model: AlignmentModel,
    *,
    run: str = "",
    run_digest: str = "",
    backend: str = FLAT,
    cut: Segmenter = windows_and_changes,
    progress: ProgressCallback = silent,
) -> SearchIndex:
    """An index of the segments of every cached video, as `cut` gives them, in one part and in memory.

    Raises:
        MissingError: the cache holds no video.
    """
    videos = _videos(cache)
    batches = list(_batches(cache, model, videos, backend, float("inf"), progress, cut))
    dim = batches[0].vectors.shape[1]
    return SearchIndex(tuple(batches), dim, cache.spec, run, run_digest, cache.state(), IndexConfig(backend), cut=CUT)


def sync_index(
    folder: Path,
    held: SearchIndex | None,
    cache: FeatureCache,
    model: Model,
    asked: IndexConfig,
    *,
    queries: Callable[[], np.ndarray] | None = None,
    compact: bool = False,
    progress: ProgressCallback = silent,
) -> SyncReport:
    """The index in `folder` holds what `cache` holds, and is as `asked`. What it holds already is not made anew.

    Args:
        folder: where the index lies, or is to lie.
        held: the index there, of the same features and model; None to build one, which takes the place of any when it is whole.
        cache: the features.
        model: what makes vectors of them.
        asked: what the index is to be.
        queries: gives `(Q, E)` vectors of texts to set up and measure with, should they be needed; made up where there are few.
        compact: make one part of all.
        progress: called for each video.

    Raises:
        MissingError: the cache holds no video.
    """
    videos = _videos(cache)
    is_first = not (folder / "index.json").is_file()
    empty = SearchIndex((), 1, cache.spec, model.run, model.run_digest, "", asked, cut=CUT)
    found = diff_index(held or empty, cache)
    index = drop_deleted(held, found) if held else empty
    was, index = index.asked, replace(index, asked=asked, cache_state="")
    backend = asked.backend if is_exact(asked.backend) else FLAT
    new = [v for v in videos if v in set(found.new)]
    done = 0
    for part in _batches(cache, model.aligned, new, backend, FLAT_BYTES, progress):
        done += len(part.videos)
        kept = save_fragment(folder, part, part.vectors.shape[1])
        index = replace(index, parts=(*index.parts, kept), dim=part.vectors.shape[1])
        # In the place of another one nothing is put before it is whole: half of it would be less than what was there.
        if (held or is_first) and done < len(new):
            save_index(folder, index)
    merged = compact_index(folder, index, was, queries, compact=compact, progress=progress)
    notes = list(merged.notes)
    if done < len(new):
        notes.append(Note(f"{len(new) - done} videos changed while they were read", Hint("index")))
    if asked.memory and merged.index.bytes_loaded > asked.memory and not merged.notes:
        takes, room = (f"{n / 1e6:.3g} MB" for n in (merged.index.bytes_loaded, asked.memory))
        notes.append(f"the index takes {takes}, and {room} was asked for: so few vectors are kept as they are")
    state = cache.state() if done == len(new) else ""
    index = replace(merged.index, cache_state=state)
    if held is None or not found.is_none or merged.count or asked != was or held.cache_state != state:
        index = save_index(folder, index)
    else:
        remove_orphans(folder)  # a kill may have come between a commit and its tidying up
    return SyncReport(index, found, merged.count, notes)


def _videos(cache: FeatureCache) -> list[str]:
    videos = cache.video_ids()
    if not videos:
        raise MissingError("there are no features to index", hint=Hint("extract"))
    return videos


def _batches(
    cache: FeatureCache,
    model: AlignmentModel,
    videos: list[str],
    backend: str,
    size: float,
    progress: ProgressCallback,
    cut: Segmenter = windows_and_changes,
) -> Iterator[Fragment]:
    """Parts of `videos`, in order, each of about `size` bytes of vectors; videos that are just being changed are left out."""
    batch: list[tuple[str, np.ndarray, np.ndarray]] = []
    held = 0
    for number, video_id in enumerate(videos, 1):
        features = _frames(cache, video_id)
        if features is not None:
            segments = pool_segments(model.align_frames(features), features, cut(features))
            batch.append((video_id, segments.vectors, segments.spans))
            held += segments.vectors.nbytes
        progress(Progress("index", number, len(videos)))
        if batch and (held >= size or number == len(videos)):
            yield _part(cache, batch, backend)
            batch, held = [], 0


def _part(cache: FeatureCache, batch: list[tuple[str, np.ndarray, np.ndarray]], backend: str) -> Fragment:
    """One part of `(name, vectors, spans)` of some videos."""
    names, of_videos, spans = zip(*batch, strict=True)
    vectors = np.concatenate(of_videos)
    owners = np.repeat(np.arange(len(names), dtype=np.int32), [len(s) for s in spans])
    index = indexes.build(backend, dim=vectors.shape[1])
    index.add(np.arange(len(vectors)), vectors)
    keys = tuple(key_of(cache.receipts[name]) for name in names)
    depth = 0 if index.is_exact else _DEPTH
    return Fragment(backend, lambda: index, vectors, owners, np.concatenate(spans), tuple(names), keys, depth)


def _frames(cache: FeatureCache, video_id: str) -> FrameFeatures | None:
    """Features of a video; None if an extraction that is at work put others in their place since the cache was opened."""
    try:
        return cache.frames(video_id)
    except (CacheError, MissingError):
        if FeatureCache.open(cache.folder).receipts.get(video_id) == cache.receipts[video_id]:
            raise
        return None
