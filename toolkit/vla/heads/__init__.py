"""Heads: what is asked of aligned vectors - which video, which moment, which answer."""

from vla.registry import Registry

registry = Registry("vla.heads", "Head")
