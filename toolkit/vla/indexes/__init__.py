"""Indexes: vectors and row numbers, nothing else. What a row means is known to `vla.search`."""

from vla.registry import Registry

registry = Registry("vla.indexes", "Index")
