"""Lists of whole vectors: as large as the flat index, and faster."""

from __future__ import annotations

from vla.indexes._ivf import Inverted


class Index(Inverted):
    """Approximate search: true scores of the rows in the lists nearest to the query. Arguments as for `Inverted`."""

    kind = "flat"
