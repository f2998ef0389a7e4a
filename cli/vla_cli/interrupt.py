"""Signals that end a command: the first in good order, a second one at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

CODE = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it; 143 after SIGTERM, 129 after SIGHUP."""
_AGAIN = b"stopping; Ctrl-C again stops at once\n"
_SHOW_CURSOR = b"\x1b[?25h"
_ends: list[int] = []


def answer_interrupts() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt once and then end the process; what is finished is kept.

    Left alone where a signal is ignored, as SIGINT is for what a shell runs in the background, and SIGHUP under nohup.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _first)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _first)


def ending() -> tuple[int, str]:
    """The exit code and the word for what ended the command."""
    number = _ends[0] if _ends else int(signal.SIGINT)
    return (
        (CODE, "interrupted") if number == signal.SIGINT else (128 + number, f"ended by {signal.Signals(number).name}")
    )


def _first(number: int, frame: FrameType | None) -> None:
    # The system's own way: a handler of ours would have to wait for whatever Python waits for. Shells report it as 130, too.
    signal.signal(number, signal.SIG_DFL)
    _ends.append(number)
    # Progress bars hide the cursor, and after a second one nobody will bring it back.
    with suppress(OSError, ValueError):
        os.write(2, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + (_AGAIN if number == signal.SIGINT else b""))
    raise KeyboardInterrupt
