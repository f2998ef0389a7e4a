"""Lists of vectors with a bit for each number: a thirtieth of the flat index.

Gao and Long, RaBitQ, SIGMOD 2024: the signs of a randomly turned vector, relative to its centre, and two numbers that make the
estimate of the inner product unbiased.
"""

from __future__ import annotations

from vla.indexes._inverted import Inverted


class Index(Inverted):
    """Approximate search: rough estimates, so many more rows than are wanted are to be scored anew. Arguments: see `Inverted`."""

    kind = "rabitq"
    turns = True
