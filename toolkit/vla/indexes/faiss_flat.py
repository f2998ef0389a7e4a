"""FAISS's exact inner-product index."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla.errors import CacheError
from vla.hints import Hint
from vla.indexes import _faiss
from vla.indexes.base import NO_ID, ExhaustiveIndex, by_score_then_id, checked, empty_result


class Index(ExhaustiveIndex):
    """Exact search, blocked and threaded by FAISS.

    Args:
        dim: width of the vectors.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._index = _faiss.flat(dim)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See the base class."""
        ids, vectors = checked(ids, vectors, self.dim)
        self.remove(ids)
        if len(ids):
            self._index.add_with_ids(vectors, ids)

    def remove(self, ids: np.ndarray) -> int:
        """See the base class."""
        ids = np.asarray(ids, np.int64)
        return int(self._index.remove_ids(_faiss.selector(ids))) if len(ids) and len(self) else 0

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See the base class."""
        _, queries = checked(np.arange(len(queries)), queries, self.dim)
        if not len(queries) or not len(self):
            return empty_result(len(queries), k)
        # One more than asked for, to see whether rows tie for the last place: FAISS takes any of those.
        only = {} if allowed is None else {"params": _faiss.search_params(allowed)}
        scores, ids = self._index.search(queries, k + 1, **only)
        scores[ids == NO_ID] = -np.inf
        tied = (scores[:, k - 1] == scores[:, k]) & (ids[:, k] != NO_ID)
        scores, ids = by_score_then_id(scores[:, :k], ids[:, :k])
        for row in np.flatnonzero(tied):
            scores[row], ids[row] = self._at_least(queries[row], scores[row, -1], k, only)
        return scores, ids

    def _at_least(self, query: np.ndarray, score: float, k: int, only: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The best `k` of all rows that come up to `score`, of which there are more than `k`."""
        # The margin: FAISS rounds a product differently in a batch of many queries than alone.
        lowest = float(score) - 1e-5 * max(1.0, abs(float(score)))
        _, scores, ids = self._index.range_search(query[None], lowest, **only)
        scores, ids = by_score_then_id(scores[None], ids[None])
        return scores[0, :k], ids[0, :k]

    def __len__(self) -> int:
        """Rows."""
        return int(self._index.ntotal)

    def to_bytes(self) -> bytes:
        """FAISS's own format."""
        return _faiss.serialized(self._index)

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """See the base class."""
        found = _faiss.deserialized(content)
        if found.d < 1 or found.metric_type != 0:  # 0 is METRIC_INNER_PRODUCT
            raise CacheError("this FAISS index does not hold inner products", hint=Hint("index"))
        index = cls(int(found.d))
        index._index = found
        return index
