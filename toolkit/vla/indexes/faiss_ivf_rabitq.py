"""Inverted lists of vectors with a bit per dimension (RaBitQ): a twelfth of the flat index.

Gao and Long, RaBitQ, SIGMOD 2024: the signs of a randomly rotated residual, and two numbers that
make the estimate of the inner product unbiased. Rows are in memory twice: row by row, for saving,
adding and removing, and in blocks of 32 that are compared at once (Andre, Kermarrec and Le
Scouarnec, Cache locality is not enough, VLDB 2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vla.indexes import _faiss
from vla.indexes._ivf import IvfIndex


class Index(IvfIndex):
    """Approximate search with rough estimates: rerank many more rows than needed.

    Arguments: see `IvfIndex`.
    """

    kind = "rabitq"
    rotates = True
    memory_factor = 2

    _fast: Any = None
    """The second layout, built by the first search after a change."""

    def begin(self, vectors: np.ndarray, centroids: np.ndarray) -> None:
        """Start with trained centroids; see the base class."""
        self._fast = None
        super().begin(vectors, centroids)

    def add(self, ids: np.ndarray, vectors: np.ndarray, lists: np.ndarray | None = None) -> None:
        """Add or replace rows; see the base class."""
        self._fast = None
        super().add(ids, vectors, lists)

    def remove(self, ids: np.ndarray) -> int:
        """Remove rows; see the base class."""
        self._fast = None
        return super().remove(ids)

    def _search_index(self) -> Any:
        # Threads may search at once: the attribute is only set to a complete layout.
        fast = self._fast
        if fast is None:
            fast = self._fast = _faiss.fast_scan(self._index)
        return fast
