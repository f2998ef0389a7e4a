"""Encoders: frozen models that turn frames and texts into features of one space."""

from vla.registry import Registry

registry = Registry("vla.encoders", "Encoder")
