"""Exact search in numpy, the reference for the other indexes."""

from __future__ import annotations

import numpy as np

from vla.errors import CacheError
from vla.hints import Hint
from vla.indexes.base import NO_ID, ExhaustiveIndex, by_score_then_id, check_vectors

_HEADER = np.dtype([("magic", "S4"), ("dim", "<i8"), ("rows", "<i8")])


class Index(ExhaustiveIndex):
    """Exact search by one matrix product.

    Args:
        dim: width of the vectors.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._ids = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, dim), np.float32)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add or replace rows; see the base class."""
        ids, vectors = check_vectors(ids, vectors, self.dim)
        self.remove(ids)
        self._ids = np.concatenate([self._ids, ids])
        self._vectors = np.concatenate([self._vectors, vectors])

    def remove(self, ids: np.ndarray) -> int:
        """Remove `ids` and return how many were present; see the base class."""
        is_removed = np.isin(self._ids, ids)
        self._ids, self._vectors = self._ids[~is_removed], self._vectors[~is_removed]
        return int(is_removed.sum())

    def search(
        self, queries: np.ndarray, k: int, id_mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best rows; see the base class."""
        _, queries = check_vectors(np.arange(len(queries)), queries, self.dim)
        similarity, row_ids = queries @ self._vectors.T, self._ids
        if id_mask is not None:
            columns = np.isin(row_ids, np.flatnonzero(id_mask))
            similarity, row_ids = similarity[:, columns], row_ids[columns]
        scores, ids = by_score_then_id(similarity, np.broadcast_to(row_ids, similarity.shape))
        num_missing = max(0, k - len(row_ids))
        scores = np.pad(scores[:, :k], ((0, 0), (0, num_missing)), constant_values=-np.inf)
        return scores, np.pad(ids[:, :k], ((0, 0), (0, num_missing)), constant_values=NO_ID)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._ids)

    def to_bytes(self) -> bytes:
        """Return header, ids and vectors as bytes."""
        header = np.array([(b"VLAX", self.dim, len(self._ids))], _HEADER)
        return (
            header.tobytes()
            + self._ids.astype("<i8").tobytes()
            + self._vectors.astype("<f4").tobytes()
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """Return the index that `to_bytes` saved; see the base class."""
        head = (
            np.frombuffer(content[: _HEADER.itemsize], _HEADER)
            if len(content) >= _HEADER.itemsize
            else None
        )
        if head is None or head[0]["magic"] != b"VLAX":
            raise CacheError("this is not an exact index of vla", hint=Hint("index"))
        dim, rows = int(head[0]["dim"]), int(head[0]["rows"])
        if dim < 1 or rows < 0 or len(content) != _HEADER.itemsize + rows * (8 + 4 * dim):
            raise CacheError("the index is not as long as it says", hint=Hint("index"))
        index = cls(dim)
        middle = _HEADER.itemsize + 8 * rows
        index._ids = np.frombuffer(content[_HEADER.itemsize : middle], "<i8").astype(np.int64)
        index._vectors = (
            np.frombuffer(content[middle:], "<f4").reshape(rows, dim).astype(np.float32)
        )
        return index
