"""Garbage collection off while libraries are imported.

Importing torch makes a million objects and no garbage. To look through them again and again takes a
tenth of the time in which `vla search` starts.
"""

from __future__ import annotations

import gc


def pause() -> None:
    """Stop collecting until `resume`; a short command never does."""
    gc.disable()


def resume() -> None:
    """Collect again, but only objects that were made after this call."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
