"""Compaction: merge the fragments of an index, and choose the kind of index of a large one.

Searches return the same results, faster. Vectors are copied from the fragments, so nothing is
computed again, and the merged fragment replaces its sources in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vla.indexes import registry as indexes
from vla.indexes.base import Index
from vla.indexing.autotune import autotune_index, synthetic_queries
from vla.indexing.config import AUTO, IndexBenchmark, IndexConfig
from vla.indexing.fragments import Fragment, iter_blocks
from vla.indexing.search_index import SearchIndex
from vla.indexing.store import save_fragment
from vla.indexing.vector_files import check_vectors, open_memmap, save_vectors
from vla.progress import ProgressCallback, silent

FLAT = "faiss_flat"
"""The exact index, the default for small indexes."""
FLAT_BYTES = 50_000_000
"""Maximum size of the vectors (25,000 of 512 numbers) for an exhaustive search, which then takes a
few milliseconds."""
_MAX_SMALL_FRAGMENTS = 8
"""Maximum number of small fragments before they are merged."""
_MIN_QUERIES = 50
_MIN_IVF_ROWS = 100
"""Minimum number of rows of an IVF index, whatever the configuration."""


@dataclass(frozen=True)
class Compaction:
    """Result of a compaction.

    Attributes:
        index: the index, not committed yet.
        count: number of fragments that were merged; 0 if none.
        notes: messages for the user.
    """

    index: SearchIndex
    count: int = 0
    notes: tuple[str, ...] = ()


def is_exact(backend: str) -> bool:
    """Return whether an index plug-in returns the results of an exhaustive search."""
    return backend != AUTO and bool(indexes.get(backend).is_exact)


def compact_index(
    folder: Path,
    index: SearchIndex,
    previous_config: IndexConfig,
    queries: Callable[[], np.ndarray] | None = None,
    *,
    compact: bool = False,
    progress: ProgressCallback = silent,
) -> Compaction:
    """Merge all fragments if `compact`, if the configuration changed or if the index outgrew it.

    Else the small ones.

    Args:
        folder: folder of the index.
        index: the index, with the requested configuration.
        previous_config: configuration that its fragments were made with.
        queries: returns `(Q, E)` queries to tune and benchmark with; with fewer than 50, synthetic
            queries are used.
        compact: merge all fragments.
        progress: called during benchmarks.
    """
    sources = _fragments_to_merge(index, previous_config, compact)
    if not sources:
        return Compaction(index)
    rest = tuple(p for p in index.parts if p not in sources)
    part = _merge(folder, sources, index)
    benchmarks: tuple[IndexBenchmark, ...] = index.benchmarks if rest else ()
    notes: tuple[str, ...] = ()
    if not rest and _needs_ivf(index):
        captions = queries() if queries else np.zeros((0, index.dim), np.float32)
        has_captions = len(captions) >= _MIN_QUERIES
        vectors = captions if has_captions else synthetic_queries(part.vectors)
        result = autotune_index(part.vectors, vectors, index.config, progress)
        part = replace(part, backend=result.backend, make=lambda: result.index, depth=result.depth)
        benchmarks = tuple(
            replace(b, queries="captions" if has_captions else "noise") for b in result.benchmarks
        )
        notes = result.notes
    parts = (*rest, save_fragment(folder, part, index.dim))
    return Compaction(replace(index, parts=parts, benchmarks=benchmarks), len(sources), notes)


def _needs_ivf(index: SearchIndex) -> bool:
    """Return whether the index should not be flat: by configuration, or because it is large."""
    backend, rows = index.config.backend, len(index.vectors)
    return (
        not is_exact(backend)
        and rows >= _MIN_IVF_ROWS
        and (backend != AUTO or rows * index.dim * 4 > FLAT_BYTES)
    )


def _fragments_to_merge(
    index: SearchIndex, previous_config: IndexConfig, compact: bool
) -> Sequence[Fragment]:
    """Return the fragments of `index` to merge: all, the small ones, or none."""
    config = index.config
    flat = [p for p in index.parts if is_exact(p.backend)]
    num_deleted = sum(int((~p.live_mask).sum()) for p in index.parts)
    needs_ivf = _needs_ivf(index)
    is_other = is_exact(config.backend) and any(p.backend != config.backend for p in index.parts)
    is_obsolete = not needs_ivf and config != previous_config and len(flat) < len(index.parts)
    is_untuned = needs_ivf and (len(flat) == len(index.parts) or config != previous_config)
    has_outgrown = needs_ivf and 4 * sum(len(p.spans) for p in flat) > len(index.vectors)
    if is_other or is_obsolete or is_untuned or has_outgrown or num_deleted > len(index.vectors):
        return index.parts
    if compact and (len(index.parts) > 1 or num_deleted):
        return index.parts
    small = [p for p in flat if p.vectors.nbytes < FLAT_BYTES]
    return small if len(small) > _MAX_SMALL_FRAGMENTS else ()


def _merge(folder: Path, parts: Sequence[Fragment], index: SearchIndex) -> Fragment:
    """Return one flat fragment of the live rows of `parts`, with its vectors in `folder`."""
    for part in parts:
        check_vectors(folder, part.files)
    rows = sum(int(p.live_mask.sum()) for p in parts)
    is_flat = is_exact(index.config.backend)
    backend = index.config.backend if is_flat else FLAT
    kind = "float32" if is_flat or rows * index.dim * 4 <= FLAT_BYTES else "float16"
    files = save_vectors(folder, lambda: _live_blocks(parts), kind)
    owners: list[np.ndarray] = []
    videos: list[str] = []
    keys: list[str] = []
    for part in parts:
        numbers = np.full(len(part.videos), -1, np.int32)
        for position, name, key in part.live_videos():
            numbers[position] = len(videos)
            videos.append(name)
            keys.append(key)
        owners.append(numbers[part.video_of_row[part.live_mask]])
    spans = np.concatenate([p.spans[p.live_mask] for p in parts])
    vectors = open_memmap(folder, files, rows, index.dim)
    owner = np.concatenate(owners)
    make = partial(_build_flat, backend, vectors)
    return Fragment(backend, make, vectors, owner, spans, tuple(videos), tuple(keys), files=files)


def _live_blocks(parts: Sequence[Fragment]) -> Iterator[np.ndarray]:
    for part in parts:
        for first, block in iter_blocks(part.vectors):
            yield block[part.live_mask[first : first + len(block)]]


def _build_flat(backend: str, vectors: np.ndarray) -> Index:
    index: Index = indexes.build(backend, dim=vectors.shape[1])
    for first, block in iter_blocks(vectors):
        index.add(np.arange(first, first + len(block)), block)
    return index
