"""File formats for frame features, as the field exchanges them: one video is read at a time."""

from vla.registry import Registry

registry = Registry("vla.formats", "Format")
