"""Inverted lists of scalar-quantized vectors, a byte per dimension: a quarter of the flat index."""

from __future__ import annotations

from vla.indexes._ivf import IvfIndex


class Index(IvfIndex):
    """Approximate search over residuals of 256 steps per dimension. Arguments: see `IvfIndex`."""

    kind = "sq8"
