"""Lists of whole vectors: as large as the flat index, and faster."""

from __future__ import annotations

from vla.indexes._ivf import IvfIndex


class Index(IvfIndex):
    """Approximate search: true scores of the rows in the lists nearest to the query. Arguments as for `IvfIndex`."""

    kind = "flat"
