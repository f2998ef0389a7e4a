"""Readers of caption and annotation files; each public module reads one kind of file."""

from vla.registry import Registry

registry = Registry("vla.datasets", "Dataset")
