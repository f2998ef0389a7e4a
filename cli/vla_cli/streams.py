"""Standard streams that may be closed, full, in another encoding, or a pipe without a reader.

Results that cannot be written are an error. Messages that cannot be written are dropped.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

_MODES = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w"))


class ClosedPipeError(Exception):
    """The reader of the results, such as `head` or a pager, has closed the pipe."""


class BestEffortStream:
    """A text stream for messages that drops text that cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop its buffer."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare() -> None:
    """Open closed standard streams on the null device, and make every character writable."""
    for number, (name, flags, mode) in enumerate(_MODES):
        if getattr(sys, name) is None:
            _open_null(number, flags)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        # Names contain characters that cp1252 and ASCII lack: write escapes instead of failing.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, BestEffortStream):
        sys.stderr = BestEffortStream(sys.stderr)


def flush_results() -> None:
    """Flush stdout.

    Raises:
        ClosedPipeError: the pipe has no reader.
        OSError: the results cannot be written, e.g. to a full disk.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise_for_pipe(error)
        raise


def raise_for_pipe(error: OSError) -> None:
    """Raise ClosedPipeError if `error` means a pipe without a reader; on Windows it is EINVAL."""
    is_einval = os.name == "nt" and error.errno == errno.EINVAL and not error.filename
    if isinstance(error, BrokenPipeError) or is_einval:
        raise ClosedPipeError from error


def detach() -> None:
    """Point stdout and stderr to the null device if they cannot be flushed.

    Otherwise Python flushes them again on exit and prints the error.
    """
    sys.stderr.flush()
    for number, stream in ((1, sys.stdout), (2, sys.__stderr__)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _open_null(number, os.O_WRONLY)


def _open_null(number: int, flags: int) -> None:
    """Open the null device as descriptor `number`.

    A free descriptor would go to the next file that is opened, which then would receive messages.
    """
    with suppress(OSError):
        handle = os.open(os.devnull, flags)
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
