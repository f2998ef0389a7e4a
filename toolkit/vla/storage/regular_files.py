"""Reader of files that the user names: regular, of bounded size, opened without blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vla.errors import UsageError, VlaError

TEXT_LIMIT_BYTES = 16 * 2**20
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def open_regular(
    path: Path, error: type[VlaError] = UsageError, what: str = "file"
) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without ever waiting for a pipe or a device.

    Args:
        path: the file; links are followed.
        error: class of the error to raise.
        what: kind of the file in messages, e.g. `captions file`.

    Raises:
        VlaError: of the class `error`. The file is missing, unreadable or not regular.
    """
    try:
        # O_NONBLOCK: opening a pipe without a writer would block for ever.
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except FileNotFoundError as fault:
        raise error(f"there is no file {path}") from fault
    except IsADirectoryError as fault:
        raise error(f"{path} is a folder, not a regular file: pass a {what}") from fault
    except (OSError, ValueError) as fault:
        raise error(
            f"{path} cannot be opened: {getattr(fault, 'strerror', None) or fault}"
        ) from fault
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else _KINDS.get(stat.S_IFMT(mode), "special")
            raise error(f"{path} is {kind}, not a regular file: pass a {what}")
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    except VlaError:
        raise  # some are OSErrors, too
    except OSError as fault:
        raise error(f"{path} cannot be read: {fault.strerror or fault}") from fault
    finally:
        os.close(handle)


def read_regular(
    path: Path,
    limit_bytes: int = TEXT_LIMIT_BYTES,
    error: type[VlaError] = UsageError,
    what: str = "file",
) -> bytes:
    """Read the bytes of a regular file, without ever waiting for a pipe or a device.

    Args:
        path: the file; links are followed.
        limit_bytes: maximum size; a larger file is refused before it is read.
        error: class of the error to raise.
        what: kind of the file in messages, e.g. `captions file`.

    Raises:
        VlaError: of the class `error`. The file is missing, unreadable, not regular, or too large.
    """
    with open_regular(path, error, what) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise error(
                f"{path} has {size} bytes, more than the {limit_bytes} allowed for a {what}"
            )
        # One byte more than the limit: a file may grow, and files of /proc report size 0.
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise error(f"{path} has more than the {limit_bytes} bytes allowed for a {what}")
    return content
