"""Decoders: a video file in, upright frames with true times out."""

import os

from vla.registry import Registry

registry = Registry("vla.decoders", "Decoder")

DEFAULT = "isolated" if os.name == "posix" else "pyav"
"""Videos come from anywhere, so they are decoded in a process of their own wherever the system can hand a file over."""
