"""Immutable fragments of an index, searched as one.

New videos are added as a new fragment. Deleted and replaced videos are marked (`deleted`) and
removed when the fragment is loaded. So an index grows without being rebuilt, and
`vla.indexing.compaction` merges fragments now and then.
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
"""Numbers converted to float32 at a time."""
_MAX_EXHAUSTIVE_ROWS = 10_000
"""If a filter leaves at most this many rows, they are all compared: that takes a few milliseconds,
as an IVF search over a million rows does."""
_MANY_QUERIES = 20
"""Minimum number of queries for a matrix product, which is faster but may change the last bit of a
score."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """Segments of a batch of videos.

    Attributes:
        backend: name of the index plug-in.
        make: returns the index, whose ids are rows of the arrays below. Called once, at the first
            use.
        vectors: `(N, E)` float32 or float16, possibly mapped from a file; approximate results are
            re-ranked with them.
        video_of_row: `(N,)` int32, positions in `videos`.
        spans: `(N, 2)` float64 seconds.
        videos: names of the videos at the time the fragment was made.
        keys: digest of the features of each video, see `vla.indexing.diff.key_of`.
        depth: minimum number of rows of an approximate result to re-rank.
        deleted: positions of deleted videos.
        renamed: current names of renamed videos, by position.
        files: record of the files of the fragment; empty if it is not on disk.
    """

    backend: str
    make: Callable[[], Index]
    vectors: np.ndarray
    video_of_row: np.ndarray
    spans: np.ndarray
    videos: tuple[str, ...]
    keys: tuple[str, ...]
    depth: int = 0
    deleted: frozenset[int] = frozenset()
    renamed: Mapping[int, str] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def index(self) -> Index:
        """The loaded index, without deleted videos."""
        index = self.make()
        if self.deleted:
            index.remove(np.flatnonzero(~self.live_mask))
        return index

    @cached_property
    def live_mask(self) -> np.ndarray:
        """`(N,)` bool: whether the video of the row is not deleted."""
        return ~np.isin(self.video_of_row, np.array(sorted(self.deleted), np.int32))

    def live_videos(self) -> Iterator[tuple[int, str, str]]:
        """Yield position, current name and key of each video that is not deleted."""
        for position, (name, key) in enumerate(zip(self.videos, self.keys, strict=True)):
            if position not in self.deleted:
                yield position, self.renamed.get(position, name), key

    def search(
        self, queries: np.ndarray, k: int, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and ids of the `k` best rows, as `Index.search`.

        Scores are exact for every index.

        If `mask` `(N,)` leaves few rows, they are all compared with the query, without an
        approximate index.

        Raises:
            CacheError: the index returns invalid rows or values; it may come from elsewhere.
        """
        if self.index.is_exact:
            return self._check_result(*self.index.search(queries, k, mask))
        live = self.live_mask if mask is None else self.live_mask & mask
        count = len(self.index) if mask is None else int(live.sum())
        if mask is not None and count <= _MAX_EXHAUSTIVE_ROWS:
            rows = np.broadcast_to(np.flatnonzero(live), (len(queries), count))
            return self._check_result(*rerank(self.vectors, queries, rows, k))
        if 2 * k >= count:  # an approximate index saves nothing if nearly all rows are requested
            return self._check_result(*exhaustive(self.vectors, queries, k, live))
        depth = min(max(self.depth, 2 * k), count)
        _, ids = self.index.search(queries, depth, None if mask is None else live)
        if (ids >= len(self.vectors)).any():
            raise CacheError("the index holds rows that fit nothing", hint=Hint("index"))
        return self._check_result(*rerank(self.vectors, queries, ids, k))

    def _check_result(self, scores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if (rows >= len(self.spans)).any() or not np.isfinite(scores[rows != NO_ID]).all():
            raise CacheError("the index holds rows or values that fit nothing", hint=Hint("index"))
        return scores, rows


class FragmentedIndex:
    """Several fragments as one index; the ids of a fragment continue those of the one before."""

    def __init__(self, parts: Sequence[Fragment], dim: int) -> None:
        self.parts, self.dim = list(parts), dim
        self._first = np.cumsum([0, *(len(p.spans) for p in self.parts)])

    def search(
        self, queries: np.ndarray, k: int, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and ids as `vla.indexes.base.Index.search`, among the rows of `mask`
        `(N,)`; None for all.

        Raises:
            CacheError: as `Fragment.search`.
        """
        results = [empty_result(len(queries), k)]
        for part, first in zip(self.parts, self._first.tolist(), strict=False):
            part_mask = None if mask is None else mask[first : first + len(part.spans)]
            if part_mask is not None and not part_mask.any():
                continue
            scores, rows = part.search(queries, k, part_mask)
            results.append((scores, np.where(rows == NO_ID, NO_ID, rows + first)))
        scores, ids = (np.concatenate(columns, 1) for columns in zip(*results, strict=True))
        scores, ids = by_score_then_id(scores, ids)
        return scores[:, :k], ids[:, :k]

    def __len__(self) -> int:
        """Return the number of rows that are not deleted."""
        return sum(int(p.live_mask.sum()) for p in self.parts)


def rerank(
    vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and ids of the best `k` of `rows` `(Q, C)` for each of `queries` `(Q, E)`, by
    exact inner products.

    `vectors` `(N, E)` may have any precision; products are summed in float32. `NO_ID` in `rows` is
    ignored.
    """
    scores, ids = empty_result(len(queries), max(k, rows.shape[1]))
    for number, query in enumerate(np.asarray(queries, np.float32)):
        own = np.sort(rows[number][rows[number] != NO_ID])  # in the order of the file
        ids[number, : len(own)] = own
        scores[number, : len(own)] = _inner_products(vectors[own].astype(np.float32), query)
    scores, ids = by_score_then_id(scores, ids)
    return scores[:, :k], ids[:, :k]


def exhaustive(
    vectors: np.ndarray, queries: np.ndarray, k: int, is_live: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and ids of the best `k` live rows of `vectors` `(N, E)`, by exact inner
    products, block by block.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    best, ids = empty_result(len(queries), k)
    for first, block in iter_blocks(vectors):
        live = (
            np.arange(len(block))
            if is_live is None
            else np.flatnonzero(is_live[first : first + len(block)])
        )
        is_few = len(queries) < _MANY_QUERIES
        products = (
            np.stack([_inner_products(block, query) for query in queries])
            if is_few
            else queries @ block.T
        )
        if not np.isfinite(products).all():
            raise CacheError("the index holds values that are no numbers", hint=Hint("index"))
        for number, scores in enumerate(products):
            rows = live
            if len(live) > k:  # all that reach the k-th best, including ties
                live_scores = scores[live]
                rows = live[
                    live_scores
                    >= np.partition(live_scores, len(live_scores) - k)[len(live_scores) - k]
                ]
            both = np.append(best[number], scores[rows]), np.append(ids[number], rows + first)
            merged_scores, merged_ids = by_score_then_id(both[0][None], both[1][None])
            best[number], ids[number] = merged_scores[0, :k], merged_ids[0, :k]
    return best, ids


def _inner_products(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return `(N,)` inner products whose bits do not depend on the other rows, unlike those of a
    matrix product.
    """
    products: np.ndarray = np.einsum("ij,j->i", vectors, query)
    return products


def iter_blocks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield blocks of rows of `vectors` as float32, each with the number of its first row."""
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    for first in range(0, len(vectors), step):
        yield first, np.asarray(vectors[first : first + step], np.float32)
