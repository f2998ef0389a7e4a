"""Captions files -> annotations; every file of this package that has no leading underscore reads one kind of file."""

from vla.registry import Registry

registry = Registry("vla.datasets", "Dataset")
