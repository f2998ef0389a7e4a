"""Locks between processes: one holder at a time, and a lock ends with its process, however that ends.

The lock is a file that the operating system locks. Where the file system cannot do that (some network and FUSE mounts), a file
that exists only while the lock is held takes its place. A second file beside it names the holder, for messages only.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vla.errors import ResourceError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NO_LOCKS = {getattr(errno, name, -1) for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "ENOTTY")}
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        pid: its number.
        command: program and first argument, e.g. `vla extract`.
        host: name of its machine.
    """

    pid: int
    command: str
    host: str

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; assumed of other machines."""
        return self.host != socket.gethostname() or _runs(self.pid)

    def __str__(self) -> str:
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"PID {self.pid}{where}, `{self.command}`"


@contextmanager
def lock(
    path: Path, on_wait: Callable[[Holder | None], None] = lambda holder: None, *, or_without: bool = False
) -> Iterator[None]:
    """Hold the lock at `path`. Waits for the process that has it, after one call of `on_wait` with that process, if known.

    Args:
        path: of the lock file; made where there is none, and left there.
        on_wait: called once if the lock is not free.
        or_without: go on without the lock where the file cannot be written; for those who only read.

    Raises:
        ResourceError: the lock file cannot be written.
    """
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquired(path, on_wait)
    except OSError as error:
        if not (or_without and error.errno in _NOT_WRITABLE):
            raise ResourceError(f"cannot lock {path}: {error.strerror or error}") from error
    if lock is None:
        yield
        return
    beside = _beside(path)
    record = {"pid": os.getpid(), "command": _command(), "host": socket.gethostname()}
    try:
        with suppress(OSError):
            beside.write_text(json.dumps(record), "ascii")
        yield
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        lock.release()


def holder(path: Path) -> Holder | None:
    """The process that holds the lock at `path` now, as far as it left its name; takes no lock itself."""
    try:
        record = json.loads(_beside(path).read_bytes())
        found = Holder(int(record["pid"]), str(record["command"]), str(record["host"]))
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if found.is_alive else None


def _acquired(path: Path, on_wait: Callable[[Holder | None], None]) -> BaseFileLock:
    from filelock import FileLock, SoftFileLock, Timeout

    def acquire(lock: BaseFileLock) -> BaseFileLock:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait(holder(path))
            lock.acquire(poll_interval=_POLL_SECONDS)
        return lock

    try:
        if _has_flock(path):
            return acquire(FileLock(path, thread_local=False))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return acquire(SoftFileLock(path.with_name(f"{path.name}.soft"), thread_local=False))


def _has_flock(path: Path) -> bool:
    """Whether the system has such locks at all. filelock's own way on where it has none lets two in, in some versions."""
    if sys.platform == "win32":
        return True
    try:
        import fcntl
    except ImportError:
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _command() -> str:
    program = Path(sys.argv[0] if sys.argv else "python")
    name = program.parent.name if program.name == "__main__.py" else program.name
    return " ".join([{"vla_cli": "vla"}.get(name, name) or "python", *sys.argv[1:2]])[:80]


def _runs(pid: int) -> bool:
    if pid <= 0:
        return False
    if os.name == "nt":
        return _runs_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return True


def _runs_on_windows(pid: int) -> bool:
    # os.kill would end the process there.
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return False
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE
