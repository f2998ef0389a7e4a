"""Losses by name; `base` states their two protocols."""

from __future__ import annotations

from vla.registry import Registry

registry = Registry("vla.losses", "Loss")
