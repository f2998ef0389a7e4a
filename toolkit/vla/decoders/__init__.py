"""Video decoders: upright RGB frames of a video file with their presentation times."""

import os

from vla.registry import Registry

registry = Registry("vla.decoders", "Decoder")

DEFAULT = "isolated" if os.name == "posix" else "pyav"
"""The default decoder. Videos are untrusted input, so they are decoded in a separate process
wherever the system can share a file with one."""
