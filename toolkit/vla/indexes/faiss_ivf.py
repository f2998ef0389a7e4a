"""Inverted lists of full vectors: as large as the flat index, and faster."""

from __future__ import annotations

from vla.indexes._ivf import IvfIndex


class Index(IvfIndex):
    """Approximate search with exact scores in the nearest lists. Arguments: see `IvfIndex`."""

    kind = "flat"
