"""Lists of vectors with a byte for each number: a quarter of the flat index."""

from __future__ import annotations

from vla.indexes._ivf import IvfIndex


class Index(IvfIndex):
    """Approximate search: what a row differs from its centre by, each number in 256 steps. Arguments as for `IvfIndex`."""

    kind = "sq8"
