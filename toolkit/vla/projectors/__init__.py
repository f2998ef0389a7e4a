"""Projectors: raw frozen features in, unit vectors of a shared space out."""

from vla.registry import Registry

registry = Registry("vla.projectors", "Projector")
