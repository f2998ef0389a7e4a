"""Lists of vectors with a bit for each number: a twelfth of the flat index.

Gao and Long, RaBitQ, SIGMOD 2024: the signs of a randomly turned vector, relative to its centre, and two numbers that make the
estimate of the inner product unbiased. Rows are in memory twice: row by row, which is what is saved, added to and removed from,
and laid out so that 32 are compared at once (Andre, Kermarrec and Le Scouarnec, Cache locality is not enough, VLDB 2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vla.indexes import _faiss
from vla.indexes._ivf import IvfIndex


class Index(IvfIndex):
    """Approximate search: rough estimates, so many more rows than are wanted are to be scored anew. Arguments: see `IvfIndex`."""

    kind = "rabitq"
    turns = True
    memory_factor = 2

    _fast: Any = None
    """The second layout, made when it is first searched after a change."""

    def begin(self, vectors: np.ndarray, centres: np.ndarray) -> None:
        """See the base class."""
        self._fast = None
        super().begin(vectors, centres)

    def add(self, ids: np.ndarray, vectors: np.ndarray, near: np.ndarray | None = None) -> None:
        """See the base class."""
        self._fast = None
        super().add(ids, vectors, near)

    def remove(self, ids: np.ndarray) -> int:
        """See the base class."""
        self._fast = None
        return super().remove(ids)

    def _searched(self) -> Any:
        # Threads may search at once: what is made is whole before the others see it.
        fast = self._fast
        if fast is None:
            fast = self._fast = _faiss.fast_scan(self._index)
        return fast
