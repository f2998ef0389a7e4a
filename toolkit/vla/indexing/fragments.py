"""Segments in parts: each part is a batch of videos and never changes; searching them all is searching one.

What is added comes as a new part. What is deleted or superseded is named (`gone`) and left out when the part is loaded. So an
index grows without being built anew, and `vla.indexing.compaction` makes few parts of many now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vla.errors import CacheError
from vla.hints import Hint
from vla.indexes.base import NO_ID, Index, by_score_then_id, empty_result

_BLOCK = 1 << 24
"""Numbers that are turned into float32 at once."""
_FEW = 10_000
"""Up to so many rows that a filter leaves are read in a few milliseconds, which is what lists of a million take."""
_MANY_QUERIES = 20
"""From so many on, a product of matrices is worth scores that differ in the last bit."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """Segments of some videos.

    Attributes:
        backend: name of the index plug-in.
        make: gives the index, whose ids are rows of the arrays below. Called once, when it is first needed.
        vectors: `(N, E)` float32 or float16, perhaps mapped from a file: what approximate results are scored with.
        video_of_row: `(N,)` int32, positions in `videos`.
        spans: `(N, 2)` float64 seconds.
        videos: names of the videos, as they were when the part was made.
        keys: of each video, what its features were: another key, other features.
        depth: how many rows of an approximate result are scored anew, at least.
        gone: positions of videos that are no longer part of it.
        renamed: names of videos that have others now, by position.
        files: what the index on disk says of the part's files; empty as long as there are none.
    """

    backend: str
    make: Callable[[], Index]
    vectors: np.ndarray
    video_of_row: np.ndarray
    spans: np.ndarray
    videos: tuple[str, ...]
    keys: tuple[str, ...]
    depth: int = 0
    gone: frozenset[int] = frozenset()
    renamed: Mapping[int, str] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def index(self) -> Index:
        """The loaded index, without what is gone."""
        index = self.make()
        if self.gone:
            index.remove(np.flatnonzero(~self.live_mask))
        return index

    @cached_property
    def live_mask(self) -> np.ndarray:
        """`(N,)` bool: the row's video is still part of it."""
        return ~np.isin(self.video_of_row, np.array(sorted(self.gone), np.int32))

    def held(self) -> Iterator[tuple[int, str, str]]:
        """Position, name of today and key of each video that is still part of it."""
        for position, (name, key) in enumerate(zip(self.videos, self.keys, strict=True)):
            if position not in self.gone:
                yield position, self.renamed.get(position, name), key

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The `k` best rows, as `Index.search` has it; scores are true whatever the index.

        Where few rows are `allowed` `(N,)`, an index that estimates is not asked: these are compared with the query, all of them.

        Raises:
            CacheError: rows or values fit nothing; the index may be somebody else's.
        """
        if self.index.is_exact:
            return self._whole(*self.index.search(queries, k, allowed))
        live = self.live_mask if allowed is None else self.live_mask & allowed
        count = len(self.index) if allowed is None else int(live.sum())
        if allowed is not None and count <= _FEW:
            few = np.broadcast_to(np.flatnonzero(live), (len(queries), count))
            return self._whole(*rerank(self.vectors, queries, few, k))
        if 2 * k >= count:  # of nearly everything, an estimate saves nothing
            return self._whole(*exhaustive(self.vectors, queries, k, live))
        depth = min(max(self.depth, 2 * k), count)
        _, found = self.index.search(queries, depth, None if allowed is None else live)
        if (found >= len(self.vectors)).any():
            raise CacheError("the index holds rows that fit nothing", hint=Hint("index"))
        return self._whole(*rerank(self.vectors, queries, found, k))

    def _whole(self, scores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if (rows >= len(self.spans)).any() or not np.isfinite(scores[rows != NO_ID]).all():
            raise CacheError("the index holds rows or values that fit nothing", hint=Hint("index"))
        return scores, rows


class FragmentedIndex:
    """Several parts as one index: the ids of each go on where those of the one before end."""

    def __init__(self, parts: Sequence[Fragment], dim: int) -> None:
        self.parts, self.dim = list(parts), dim
        self._first = np.cumsum([0, *(len(p.spans) for p in self.parts)])

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `vla.indexes.base.Index.search`; `allowed` `(N,)` is of all rows. Raises CacheError as `Fragment.search` does."""
        found = [empty_result(len(queries), k)]
        for part, first in zip(self.parts, self._first.tolist(), strict=False):
            some = None if allowed is None else allowed[first : first + len(part.spans)]
            if some is not None and not some.any():
                continue
            scores, rows = part.search(queries, k, some)
            found.append((scores, np.where(rows == NO_ID, NO_ID, rows + first)))
        scores, ids = (np.concatenate(columns, 1) for columns in zip(*found, strict=True))
        scores, ids = by_score_then_id(scores, ids)
        return scores[:, :k], ids[:, :k]

    def __len__(self) -> int:
        """Rows that can be found."""
        return sum(int(p.live_mask.sum()) for p in self.parts)


def rerank(vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best `k` of `rows` `(Q, C)` for each of `queries` `(Q, E)`, by their true inner products.

    `vectors`: `(N, E)` of any precision; products are summed in float32. NOTHING in `rows` stays nothing.
    """
    scores, ids = empty_result(len(queries), max(k, rows.shape[1]))
    for number, query in enumerate(np.asarray(queries, np.float32)):
        mine = np.sort(rows[number][rows[number] != NO_ID])  # in the order in which they lie in the file
        ids[number, : len(mine)] = mine
        scores[number, : len(mine)] = _by_row(vectors[mine].astype(np.float32), query)
    scores, ids = by_score_then_id(scores, ids)
    return scores[:, :k], ids[:, :k]


def exhaustive(
    vectors: np.ndarray, queries: np.ndarray, k: int, is_live: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The best `k` of all rows that are live, by their true inner products: exact, however large `vectors` `(N, E)` is."""
    queries = np.ascontiguousarray(queries, np.float32)
    best, ids = empty_result(len(queries), k)
    for first, block in iter_blocks(vectors):
        live = np.arange(len(block)) if is_live is None else np.flatnonzero(is_live[first : first + len(block)])
        is_few = len(queries) < _MANY_QUERIES
        found = np.stack([_by_row(block, query) for query in queries]) if is_few else queries @ block.T
        if not np.isfinite(found).all():
            raise CacheError("the index holds values that are no numbers", hint=Hint("index"))
        for number, scores in enumerate(found):
            mine = live
            if len(live) > k:  # all that come up to the k-th, ties among them
                here = scores[live]
                mine = live[here >= np.partition(here, len(here) - k)[len(here) - k]]
            both = np.append(best[number], scores[mine]), np.append(ids[number], mine + first)
            merged = by_score_then_id(both[0][None], both[1][None])
            best[number], ids[number] = merged[0][0, :k], merged[1][0, :k]
    return best, ids


def _by_row(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """`(N,)` inner products of which each is the same to the bit whatever other rows there are; a product of matrices is not."""
    found: np.ndarray = np.einsum("ij,j->i", vectors, query)
    return found


def iter_blocks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """All of `vectors` as float32, some rows at a time, each with the number of its first row."""
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    for first in range(0, len(vectors), step):
        yield first, np.asarray(vectors[first : first + step], np.float32)
