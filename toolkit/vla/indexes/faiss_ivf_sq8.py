"""Lists of vectors with a byte for each number: a quarter of the flat index."""

from __future__ import annotations

from vla.indexes._ivf import Inverted


class Index(Inverted):
    """Approximate search: what a row differs from its centre by, each number in 256 steps. Arguments as for `Inverted`."""

    kind = "sq8"
