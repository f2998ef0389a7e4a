"""Decoders: a video file in, upright frames with true times out."""

from vla.registry import Registry

registry = Registry("vla.decoders", "Decoder")
