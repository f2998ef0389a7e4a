"""Standard streams that can be written to whatever they are: closed, full, of another encoding, or a pipe nobody reads.

Results that cannot be written are an error. Messages that cannot be written are lost, and the command goes on.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

_MODES = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w"))


class ReaderGoneError(Exception):
    """Whoever read the results (`head`, a pager) has closed the pipe."""


class Lossy:
    """A text stream for messages: what cannot be written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what is left."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare() -> None:
    """Open the standard streams that are closed on the null device, and let no character be one that cannot be written."""
    for number, (name, flags, mode) in enumerate(_MODES):
        if getattr(sys, name) is None:
            _occupy(number, flags)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        # Names hold characters that cp1252 and ASCII lack. They are written out rather than ending the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, Lossy):
        sys.stderr = Lossy(sys.stderr)


def flush_results() -> None:
    """Write out what is left of the results.

    Raises:
        ReaderGoneError: nobody reads the pipe any more.
        OSError: it cannot be written, e.g. to a full disk.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise_if_reader_gone(error)
        raise


def raise_if_reader_gone(error: OSError) -> None:
    """Raise ReaderGoneError if `error` is how the system says so; Windows says EINVAL."""
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL and not error.filename):
        raise ReaderGoneError from error


def abandon() -> None:
    """Point stdout and stderr to the null device where they cannot be flushed, so that Python does not try again on exit."""
    sys.stderr.flush()
    for number, stream in ((1, sys.stdout), (2, sys.__stderr__)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _occupy(number, os.O_WRONLY)


def _occupy(number: int, flags: int) -> None:
    """Open the null device as descriptor `number`: whatever is opened next would be taken for a standard stream otherwise."""
    with suppress(OSError):
        handle = os.open(os.devnull, flags)
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
