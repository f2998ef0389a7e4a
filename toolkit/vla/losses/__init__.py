"""Losses by name: what a similarity must satisfy, as one number to descend. `base` states the two protocols."""

from __future__ import annotations

from vla.registry import Registry

registry = Registry("vla.losses", "Loss")
