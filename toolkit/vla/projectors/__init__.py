"""Projectors from raw frozen features to unit vectors of a shared space."""

from vla.registry import Registry

registry = Registry("vla.projectors", "Projector")
