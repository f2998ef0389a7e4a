"""Signals that end a command: the first one in good order, a second one at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

CODE = 130
"""Exit code after Ctrl-C: 128 plus the number of SIGINT, the convention of shells. SIGTERM gives
143, SIGHUP 129."""
_NOTICE = b"stopping; press Ctrl-C again to stop at once\n"
_SHOW_CURSOR = b"\x1b[?25h"
_signals: list[int] = []


def install_handlers() -> None:
    """Make SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt once, and then end the process.

    Ignored signals stay ignored: shells ignore SIGINT for background jobs, nohup ignores SIGHUP.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle_first)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _handle_first)


def exit_reason() -> tuple[int, str]:
    """Return the exit code and a description of the signal that ended the command."""
    number = _signals[0] if _signals else int(signal.SIGINT)
    if number == signal.SIGINT:
        return CODE, "interrupted"
    return 128 + number, f"ended by {signal.Signals(number).name}"


def _handle_first(number: int, frame: FrameType | None) -> None:
    # Restore the default action of the system: a handler in Python would wait for the code that
    # blocks the interpreter.
    signal.signal(number, signal.SIG_DFL)
    _signals.append(number)
    # Progress bars hide the cursor, and a second signal would leave it hidden.
    with suppress(OSError, ValueError):
        cursor = _SHOW_CURSOR if sys.stderr.isatty() else b""
        os.write(2, cursor + (_NOTICE if number == signal.SIGINT else b""))
    raise KeyboardInterrupt
