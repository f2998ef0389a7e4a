"""Making few parts of many, and choosing what the large one is: the index is the same for who searches, and faster.

Vectors come from the parts, so nothing is computed anew; the new part takes the place of the old ones in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vla.indexes import registry as indexes
from vla.indexes.base import Index
from vla.indexing.autotune import autotune_index, synthetic_queries
from vla.indexing.config import AUTO, IndexBenchmark, IndexConfig
from vla.indexing.fragments import Fragment, iter_blocks
from vla.indexing.store import SearchIndex, save_fragment
from vla.indexing.vector_files import check_vectors, keep_vectors, open_memmap
from vla.progress import ProgressCallback, silent

FLAT = "faiss_flat"
"""The exact index that is used wherever nothing else is asked for."""
FLAT_BYTES = 50_000_000
"""Up to so many bytes of vectors (25,000 of 512 numbers) every query is compared with all of them, in a few milliseconds."""
_MANY = 8
"""More small parts than this are made one."""
_FEW_QUERIES = 50
_FEW_ROWS = 100
"""Fewer are not sorted into lists, whatever is asked for."""


@dataclass(frozen=True)
class Compaction:
    """An index of which some parts were made one.

    Attributes:
        index: it; not committed yet.
        count: how many parts were made one; 0 if none.
        notes: what a person should know.
    """

    index: SearchIndex
    count: int = 0
    notes: tuple[str, ...] = ()


def is_exact(backend: str) -> bool:
    """True for index plug-ins that find what a comparison with every row finds."""
    return backend != AUTO and bool(indexes.get(backend).is_exact)


def compact_index(
    folder: Path,
    index: SearchIndex,
    was: IndexConfig,
    queries: Callable[[], np.ndarray] | None = None,
    *,
    compact: bool = False,
    progress: ProgressCallback = silent,
) -> Compaction:
    """`index` in as few parts as it should have: in one if `compact` or if what is asked changed, else without what piled up.

    Args:
        folder: where the index lies, and its parts.
        index: what `asked` says is asked now.
        was: what was asked before.
        queries: gives `(Q, E)` to set up and measure with; made up where there are fewer than 50.
        compact: make one part of all.
        progress: called while kinds of indexes are measured.
    """
    few = _to_be_one(index, was, compact)
    if not few:
        return Compaction(index)
    rest = tuple(p for p in index.parts if p not in few)
    part = _joined(folder, few, index)
    measured: tuple[IndexBenchmark, ...] = index.measured if rest else ()
    notes: tuple[str, ...] = ()
    if not rest and _wants_lists(index):
        given = queries() if queries else np.zeros((0, index.dim), np.float32)
        is_given = len(given) >= _FEW_QUERIES
        found = autotune_index(
            part.vectors, given if is_given else synthetic_queries(part.vectors), index.asked, progress
        )
        part = replace(part, backend=found.backend, make=lambda: found.index, depth=found.depth)
        measured = tuple(replace(m, queries="captions" if is_given else "noise") for m in found.measured)
        notes = found.notes
    return Compaction(
        replace(index, parts=(*rest, save_fragment(folder, part, index.dim)), measured=measured), len(few), notes
    )


def _wants_lists(index: SearchIndex) -> bool:
    """Whether it should be more than flat: it is asked for by name, or large."""
    asked, rows = index.asked.backend, len(index.vectors)
    return not is_exact(asked) and rows >= _FEW_ROWS and (asked != AUTO or rows * index.dim * 4 > FLAT_BYTES)


def _to_be_one(index: SearchIndex, was: IndexConfig, compact: bool) -> Sequence[Fragment]:
    """Those parts of `index` that are to be made one: all, the small ones, or none."""
    flat = [p for p in index.parts if is_exact(p.backend)]
    dead = sum(int((~p.live_mask).sum()) for p in index.parts)
    lists = _wants_lists(index)
    is_other = is_exact(index.asked.backend) and any(p.backend != index.asked.backend for p in index.parts)
    is_more = not lists and index.asked != was and len(flat) < len(index.parts)
    is_untuned = lists and (len(flat) == len(index.parts) or index.asked != was)
    has_outgrown = lists and 4 * sum(len(p.spans) for p in flat) > len(index.vectors)
    if is_other or is_more or is_untuned or has_outgrown or dead > len(index.vectors):
        return index.parts
    if compact and (len(index.parts) > 1 or dead):
        return index.parts
    small = [p for p in flat if p.vectors.nbytes < FLAT_BYTES]
    return small if len(small) > _MANY else ()


def _joined(folder: Path, parts: Sequence[Fragment], index: SearchIndex) -> Fragment:
    """What lives of `parts`, with its vectors in `folder`; flat."""
    for part in parts:
        check_vectors(folder, part.files)
    rows = sum(int(p.live_mask.sum()) for p in parts)
    backend = index.asked.backend if is_exact(index.asked.backend) else FLAT
    is_small = rows * index.dim * 4 <= FLAT_BYTES
    kind = "float32" if is_small or is_exact(index.asked.backend) else "float16"
    files = keep_vectors(folder, lambda: _live_blocks(parts), kind)
    owners: list[np.ndarray] = []
    videos: list[str] = []
    keys: list[str] = []
    for part in parts:
        place = np.full(len(part.videos), -1, np.int32)
        for position, name, key in part.held():
            place[position] = len(videos)
            videos.append(name)
            keys.append(key)
        owners.append(place[part.video_of_row[part.live_mask]])
    spans = np.concatenate([p.spans[p.live_mask] for p in parts])
    vectors = open_memmap(folder, files, rows, index.dim)
    held = (np.concatenate(owners), spans, tuple(videos), tuple(keys))
    return Fragment(backend, lambda: _flat(backend, vectors), vectors, *held, files=files)


def _live_blocks(parts: Sequence[Fragment]) -> Iterator[np.ndarray]:
    for part in parts:
        for first, block in iter_blocks(part.vectors):
            yield block[part.live_mask[first : first + len(block)]]


def _flat(backend: str, vectors: np.ndarray) -> Index:
    index: Index = indexes.build(backend, dim=vectors.shape[1])
    for first, block in iter_blocks(vectors):
        index.add(np.arange(first, first + len(block)), block)
    return index
