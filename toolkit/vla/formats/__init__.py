"""Formats: frame features in the files that the field exchanges, read one video at a time and written for others to read."""

from vla.registry import Registry

registry = Registry("vla.formats", "Format")
