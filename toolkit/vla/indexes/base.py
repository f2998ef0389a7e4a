"""What every index is."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla.errors import ShapeError

NO_ID = -1
"""The id where there are fewer rows than were asked for; its score is -inf."""


class Index(Protocol):
    """Inner-product search. The constructor takes the width of the vectors.

    Attributes:
        dim: that width.
        is_exact: what `search` returns is what `exact` returns. Where not, some of the best rows may be missing, and scores
            and order are an estimate: whoever has the vectors scores the rows anew.
        lists: into how many lists rows are sorted; 1 where every query looks at every row.
        probes: how many of the lists, those nearest to the query, a search looks into.
        memory_factor: how often what `to_bytes` gives is in memory once the index has been searched.
    """

    dim: int
    is_exact: bool
    lists: int
    probes: int
    memory_factor: int

    def train(self, vectors: np.ndarray) -> None:
        """Find out from some `vectors` `(N, E)` how rows are best kept. Without this, the first `add` does it with its own."""

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Keep `vectors` `(N, E)` under `ids` `(N,)` int64; an id that is there already is replaced."""

    def remove(self, ids: np.ndarray) -> int:
        """Forget `ids`; those that are not there are passed over. Returns how many were."""

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The `k` rows with the largest inner product for each of `queries` `(Q, E)`.

        Args:
            queries: what is looked for.
            k: how many.
            allowed: `(M,)` bool: only ids for which it says so are found, none from M on; all when None. Of a query that is
                searched alone, the scores of what is found are bit for bit those without it.

        Returns scores `(Q, k)` float32, never increasing, and ids `(Q, k)` int64; equal scores are in order of id.
        Where there are fewer than `k` rows, the rest is NOTHING with score -inf. Nothing is normalised.
        """

    def __len__(self) -> int:
        """Rows."""

    def to_bytes(self) -> bytes:
        """The whole index."""

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """The index that `to_bytes` gave; raises CacheError for anything else. `content` was checked by its checksum."""


def checked(ids: np.ndarray, vectors: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """`ids` as int64 and `vectors` as contiguous float32; raises ShapeError where they do not fit."""
    ids, vectors = np.asarray(ids, np.int64), np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim or ids.shape != vectors.shape[:1]:
        raise ShapeError(f"the index takes (N,) ids and (N, {dim}) vectors, not {ids.shape} and {vectors.shape}")
    if len(np.unique(ids)) != len(ids) or (ids < 0).any():
        raise ShapeError("ids must be different from each other and not negative")
    if not np.isfinite(vectors).all():
        raise ShapeError("vectors hold values that are not finite")
    return ids, vectors


class ExhaustiveIndex:
    """What is the same for every index that compares each query with each row."""

    is_exact = True
    lists = 1
    probes = 1
    memory_factor = 1

    def train(self, vectors: np.ndarray) -> None:
        """Nothing is to be learned."""


def empty_result(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """What a search of no rows returns."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NO_ID, np.int64)


def by_score_then_id(scores: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row of `scores` and `ids` `(Q, k)` sorted by falling score, equal scores by id."""
    order = np.lexsort((ids, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
