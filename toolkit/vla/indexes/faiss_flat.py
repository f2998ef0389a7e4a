"""Exact inner-product search with FAISS."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla.errors import CacheError
from vla.hints import Hint
from vla.indexes import _faiss
from vla.indexes.base import NO_ID, ExhaustiveIndex, by_score_then_id, check_vectors, empty_result


class Index(ExhaustiveIndex):
    """Exact search, blocked and threaded by FAISS.

    Args:
        dim: width of the vectors.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._index = _faiss.flat(dim)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add or replace rows; see the base class."""
        ids, vectors = check_vectors(ids, vectors, self.dim)
        self.remove(ids)
        if len(ids):
            self._index.add_with_ids(vectors, ids)

    def remove(self, ids: np.ndarray) -> int:
        """Remove `ids` and return how many were present; see the base class."""
        ids = np.asarray(ids, np.int64)
        return int(self._index.remove_ids(_faiss.selector(ids))) if len(ids) and len(self) else 0

    def search(
        self, queries: np.ndarray, k: int, id_mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best rows; see the base class."""
        _, queries = check_vectors(np.arange(len(queries)), queries, self.dim)
        if not len(queries) or not len(self):
            return empty_result(len(queries), k)
        # One more than requested, to detect ties for the last place: FAISS returns any of those
        # rows.
        params = {} if id_mask is None else {"params": _faiss.search_params(id_mask)}
        scores, ids = self._index.search(queries, k + 1, **params)
        scores[ids == NO_ID] = -np.inf
        has_ties = (scores[:, k - 1] == scores[:, k]) & (ids[:, k] != NO_ID)
        scores, ids = by_score_then_id(scores[:, :k], ids[:, :k])
        for row in np.flatnonzero(has_ties):
            scores[row], ids[row] = self._search_above(queries[row], scores[row, -1], k, params)
        return scores, ids

    def _search_above(
        self, query: np.ndarray, score: float, k: int, params: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best `k` of all rows with at least this score, if there are more than `k`."""
        # The margin: FAISS rounds products differently in a batch of queries and for a single one.
        min_score = float(score) - 1e-5 * max(1.0, abs(float(score)))
        _, scores, ids = self._index.range_search(query[None], min_score, **params)
        scores, ids = by_score_then_id(scores[None], ids[None])
        return scores[0, :k], ids[0, :k]

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._index.ntotal)

    def to_bytes(self) -> bytes:
        """Return the index in FAISS's own format."""
        return _faiss.serialize(self._index)

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """Return the index that `to_bytes` saved; see the base class."""
        faiss_index = _faiss.deserialize(content)
        if faiss_index.d < 1 or faiss_index.metric_type != 0:  # 0 is METRIC_INNER_PRODUCT
            raise CacheError("this FAISS index does not hold inner products", hint=Hint("index"))
        index = cls(int(faiss_index.d))
        index._index = faiss_index
        return index
