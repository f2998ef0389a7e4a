"""Vector indexes: nearest rows by inner product. `vla.indexing` maps rows to segments of videos."""

from vla.registry import Registry

registry = Registry("vla.indexes", "Index")
