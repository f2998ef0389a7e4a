"""Synchronization of an index with the feature cache.

New videos are cut into segments and added as fragments, batch by batch; deleted and renamed videos
are marked in `index.json`. Each batch is committed, so searches cover all complete batches, and an
interruption costs one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla.batches.segment_pooling import pool_segments
from vla.cache.store import FeatureCache
from vla.errors import CacheError, MissingError
from vla.features import FrameFeatures
from vla.hints import Hint, Note
from vla.indexes import registry as indexes
from vla.indexing.compaction import FLAT, FLAT_BYTES, compact_index, is_exact
from vla.indexing.config import IndexConfig
from vla.indexing.diff import IndexDiff, diff_index, drop_deleted, key_of
from vla.indexing.fragments import Fragment
from vla.indexing.search_index import SearchIndex
from vla.indexing.segments import SEGMENTATION, Segmenter, windows_and_frames
from vla.indexing.store import remove_orphans, save_fragment, save_index
from vla.language.plurals import plural
from vla.model import AlignmentModel
from vla.progress import Progress, ProgressCallback, silent

_DEPTH = 200


@dataclass(frozen=True)
class RunModel:
    """Model of a trained run, with the name and digest of the run.

    Both are empty for the frozen encoder.
    """

    model: AlignmentModel
    run: str = ""
    run_digest: str = ""


@dataclass(frozen=True)
class SyncReport:
    """Result of `sync_index`.

    Attributes:
        index: the index on disk.
        diff: changes that were made; in a rebuilt index, all videos are new.
        num_merges: number of fragments that were merged.
        notes: messages for the user.
    """

    index: SearchIndex
    diff: IndexDiff
    num_merges: int = 0
    notes: list[str] = field(default_factory=list)


def build_index(
    cache: FeatureCache,
    model: AlignmentModel,
    *,
    run: str = "",
    run_digest: str = "",
    backend: str = FLAT,
    segmenter: Segmenter = windows_and_frames,
    progress: ProgressCallback = silent,
) -> SearchIndex:
    """Return an index of the segments of every cached video, in one fragment and in memory.

    Args:
        cache: the features.
        model: model that aligns them.
        run: name of the run of the model; empty for the frozen encoder.
        run_digest: digest of its weights.
        backend: name of an index plug-in.
        segmenter: returns the segments of a video.
        progress: called for each video.

    Raises:
        MissingError: the cache holds no video.
    """
    videos = _videos(cache)
    batches = list(_batches(cache, model, videos, backend, float("inf"), progress, segmenter))
    dim = batches[0].vectors.shape[1]
    config = IndexConfig(backend)
    return SearchIndex(
        tuple(batches),
        dim,
        cache.spec,
        run,
        run_digest,
        cache.state(),
        config,
        segmentation=SEGMENTATION,
    )


def sync_index(
    folder: Path,
    index: SearchIndex | None,
    cache: FeatureCache,
    model: RunModel,
    config: IndexConfig,
    *,
    queries: Callable[[], np.ndarray] | None = None,
    compact: bool = False,
    progress: ProgressCallback = silent,
) -> SyncReport:
    """Synchronize the index in `folder` with `cache`, and with `config`.

    Segments already indexed are reused.

    Args:
        folder: folder of the index.
        index: the index in `folder`, of the same features and model; None to build one, which
            replaces any index there once it is complete.
        cache: the features.
        model: the model that aligns them.
        config: requested configuration.
        queries: returns `(Q, E)` vectors of texts to tune and benchmark with; called only if
            needed. With too few, synthetic queries are used.
        compact: merge all fragments into one.
        progress: called for each video.

    Raises:
        MissingError: the cache holds no video.
    """
    previous = index
    videos = _videos(cache)
    is_first = not (folder / "index.json").is_file()
    empty = SearchIndex(
        (), 1, cache.spec, model.run, model.run_digest, "", config, segmentation=SEGMENTATION
    )
    diff = diff_index(previous or empty, cache)
    index = drop_deleted(previous, diff) if previous else empty
    previous_config, index = index.config, replace(index, config=config, cache_state="")
    backend = config.backend if is_exact(config.backend) else FLAT
    new = [v for v in videos if v in set(diff.new)]
    num_done = 0
    for part in _batches(cache, model.model, new, backend, FLAT_BYTES, progress):
        num_done += len(part.videos)
        part = save_fragment(folder, part, part.vectors.shape[1])
        index = replace(index, parts=(*index.parts, part), dim=part.vectors.shape[1])
        # A rebuilt index is committed when it is complete: until then, the previous one covers
        # more.
        if (previous or is_first) and num_done < len(new):
            save_index(folder, index)
    compaction = compact_index(
        folder, index, previous_config, queries, compact=compact, progress=progress
    )
    notes = list(compaction.notes)
    if num_done < len(new):
        notes.append(
            Note(f"{plural(len(new) - num_done, 'video')} changed during the update", Hint("index"))
        )
    if config.memory and compaction.index.nbytes > config.memory and not compaction.notes:
        size, limit = (f"{n / 1e6:.3g} MB" for n in (compaction.index.nbytes, config.memory))
        notes.append(
            f"the index takes {size}, more than the limit of {limit}: it is too small to be "
            f"compressed"
        )
    state = cache.state() if num_done == len(new) else ""
    index = replace(compaction.index, cache_state=state)
    is_changed = (
        previous is None or not diff.is_empty or compaction.count or config != previous_config
    )
    if is_changed or previous is None or previous.cache_state != state:
        index = save_index(folder, index)
    else:
        remove_orphans(folder)  # an interruption may have come between a commit and its clean-up
    return SyncReport(index, diff, compaction.count, notes)


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
    segmenter: Segmenter = windows_and_frames,
) -> Iterator[Fragment]:
    """Yield fragments of `videos`, in order, each with about `size` bytes of vectors.

    Videos in transition are skipped.
    """
    batch: list[tuple[str, np.ndarray, np.ndarray]] = []
    batch_bytes = 0
    for number, video_id in enumerate(videos, 1):
        features = _frames(cache, video_id)
        if features is not None:
            segments = pool_segments(model.align_frames(features), features, segmenter(features))
            batch.append((video_id, segments.vectors, segments.spans))
            batch_bytes += segments.vectors.nbytes
        progress(Progress("index", number, len(videos)))
        if batch and (batch_bytes >= size or number == len(videos)):
            yield _fragment(cache, batch, backend)
            batch, batch_bytes = [], 0


def _fragment(
    cache: FeatureCache, batch: list[tuple[str, np.ndarray, np.ndarray]], backend: str
) -> Fragment:
    """Return a fragment of videos given as `(name, vectors, spans)`."""
    names, vectors_by_video, spans = zip(*batch, strict=True)
    vectors = np.concatenate(vectors_by_video)
    owners = np.repeat(np.arange(len(names), dtype=np.int32), [len(s) for s in spans])
    index = indexes.build(backend, dim=vectors.shape[1])
    index.add(np.arange(len(vectors)), vectors)
    keys = tuple(key_of(cache.receipts[name]) for name in names)
    depth = 0 if index.is_exact else _DEPTH
    return Fragment(
        backend, lambda: index, vectors, owners, np.concatenate(spans), tuple(names), keys, depth
    )


def _frames(cache: FeatureCache, video_id: str) -> FrameFeatures | None:
    """Return the features of a video.

    None if an extraction has replaced them since the cache was opened.
    """
    try:
        return cache.frames(video_id)
    except (CacheError, MissingError):
        if FeatureCache.open(cache.folder).receipts.get(video_id) == cache.receipts[video_id]:
            raise
        return None
