"""Interface of vector indexes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla.errors import ShapeError

NO_ID = -1
"""Id that fills a result with fewer rows than requested; its score is -inf."""


class Index(Protocol):
    """Search by inner product. The constructor takes the width of the vectors.

    Attributes:
        dim: width of the vectors.
        is_exact: whether `search` returns the same as `exact`. If False, some of the best rows may
            be missing, and scores and order are estimates: rerank with the vectors.
        nlist: number of lists that rows are divided into; 1 if every query is compared with every
            row.
        nprobe: number of lists, those nearest to the query, that a search covers.
        memory_factor: ratio of memory, once the index was searched, to the size of `to_bytes`.
    """

    dim: int
    is_exact: bool
    nlist: int
    nprobe: int
    memory_factor: int

    def train(self, vectors: np.ndarray) -> None:
        """Train on sample `vectors` `(N, E)`. Without it, the first `add` trains on its own."""

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add `vectors` `(N, E)` under `ids` `(N,)` int64, replacing rows of the same ids."""

    def remove(self, ids: np.ndarray) -> int:
        """Remove `ids` and return how many were present; others are ignored."""

    def search(
        self, queries: np.ndarray, k: int, id_mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `k` rows with the largest inner product for each of `queries` `(Q, E)`.

        Args:
            queries: `(Q, E)`; nothing is normalized.
            k: number of rows.
            id_mask: `(M,)` bool; only ids for which it is True are returned, and no id from M on.
                None returns all. The scores of a query that is searched alone do not depend on it.

        Returns:
            Scores `(Q, k)` float32, in descending order, and ids `(Q, k)` int64; equal scores are
            in order of id. If there are fewer than `k` rows, the rest is `NO_ID` with score -inf.
        """

    def __len__(self) -> int:
        """Return the number of rows."""

    def to_bytes(self) -> bytes:
        """Return the whole index as bytes."""

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """Return the index that `to_bytes` saved.

        Args:
            content: bytes whose checksum has been verified.

        Raises:
            CacheError: for any other content.
        """


def check_vectors(ids: np.ndarray, vectors: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `ids` as int64 and `vectors` as contiguous float32.

    Raises:
        ShapeError: their shapes differ, ids are not unique and non-negative, or a value is not
            finite.
    """
    ids, vectors = np.asarray(ids, np.int64), np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim or ids.shape != vectors.shape[:1]:
        raise ShapeError(
            f"the index takes (N,) ids and (N, {dim}) vectors, not {ids.shape} and {vectors.shape}"
        )
    if len(np.unique(ids)) != len(ids) or (ids < 0).any():
        raise ShapeError("ids must be unique and not negative")
    if not np.isfinite(vectors).all():
        raise ShapeError("the vectors contain values that are not finite")
    return ids, vectors


class ExhaustiveIndex:
    """Base of indexes that compare each query with each row."""

    is_exact = True
    nlist = 1
    nprobe = 1
    memory_factor = 1

    def train(self, vectors: np.ndarray) -> None:
        """Do nothing: there is nothing to train."""


def empty_result(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of a search without rows: scores -inf, ids `NO_ID`, both `(queries, k)`."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NO_ID, np.int64)


def by_score_then_id(scores: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort each row of `scores` and `ids` `(Q, k)` by descending score, then by id."""
    order = np.lexsort((ids, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
