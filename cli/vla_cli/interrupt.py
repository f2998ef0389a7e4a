"""Ctrl-C: the first ends the command in good order, a second one at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

CODE = 130
_AGAIN = b"stopping; Ctrl-C again stops at once\n"
_SHOW_CURSOR = b"\x1b[?25h"


def answer_interrupts() -> None:
    """From now on SIGINT raises KeyboardInterrupt once and then ends the process; nothing that is finished is lost by either.

    Left alone where SIGINT is ignored, as it is for what a shell runs in the background.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _first)


def _first(number: int, frame: FrameType | None) -> None:
    # The system's own way: a handler of ours would have to wait for whatever Python waits for. Shells report it as 130, too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        # Progress bars hide the cursor, and after a second one nobody will bring it back.
        os.write(2, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + _AGAIN)
    except OSError:
        pass  # nobody is there to read it
    raise KeyboardInterrupt
