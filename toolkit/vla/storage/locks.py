"""Locks between processes: one holder at a time, released when its process ends in any way.

A lock is a file that the operating system locks. Some network and FUSE mounts have no such locks;
there, a file that exists only while the lock is held takes its place. A second file beside it
names the holder, for messages only.
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

_NO_LOCKS = {
    getattr(errno, name, -1)
    for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "ENOTTY")
}
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        pid: the process id.
        command: program and first argument, e.g. `vla extract`.
        host: name of the machine.
    """

    pid: int
    command: str
    host: str

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; True for a process of another machine."""
        return self.host != socket.gethostname() or _runs(self.pid)

    def __str__(self) -> str:
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"PID {self.pid}{where}, `{self.command}`"


@contextmanager
def lock(
    path: Path,
    on_wait: Callable[[Holder | None], None] = lambda holder: None,
    *,
    optional: bool = False,
) -> Iterator[None]:
    """Hold the lock at `path`; wait until another holder releases it.

    Args:
        path: the lock file; created if missing, and never deleted.
        on_wait: called once before waiting, with the holder, or None if the holder left no name.
        optional: continue without the lock if the file is not writable; for readers.

    Raises:
        ResourceError: the lock file cannot be written.
    """
    file_lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_lock = _acquire(path, on_wait)
    except OSError as error:
        if not (optional and error.errno in _NOT_WRITABLE):
            raise ResourceError(f"cannot lock {path}: {error.strerror or error}") from error
    if file_lock is None:
        yield
        return
    holder_file = _holder_file(path)
    record = {"pid": os.getpid(), "command": _command(), "host": socket.gethostname()}
    try:
        with suppress(OSError):
            holder_file.write_text(json.dumps(record), "ascii")
        yield
    finally:
        with suppress(OSError):
            holder_file.unlink(missing_ok=True)
        file_lock.release()


def holder(path: Path) -> Holder | None:
    """Return the live process that holds the lock at `path`, without locking; None if unknown."""
    try:
        record = json.loads(_holder_file(path).read_bytes())
        process = Holder(int(record["pid"]), str(record["command"]), str(record["host"]))
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return process if process.is_alive else None


def _acquire(path: Path, on_wait: Callable[[Holder | None], None]) -> BaseFileLock:
    from filelock import FileLock, SoftFileLock, Timeout

    def acquire(file_lock: BaseFileLock) -> BaseFileLock:
        try:
            file_lock.acquire(timeout=0)
        except Timeout:
            on_wait(holder(path))
            file_lock.acquire(poll_interval=_POLL_SECONDS)
        return file_lock

    try:
        if _has_flock(path):
            return acquire(FileLock(path, thread_local=False))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return acquire(SoftFileLock(path.with_name(f"{path.name}.soft"), thread_local=False))


def _has_flock(path: Path) -> bool:
    """Return whether `flock` works here.

    Tested because the fallback of some versions of filelock admits two holders.
    """
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


def _holder_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _command() -> str:
    program = Path(sys.argv[0] if sys.argv else "python")
    name = program.parent.name if program.name == "__main__.py" else program.name
    program_name = {"vla_cli": "vla"}.get(name, name) or "python"
    return " ".join([program_name, *sys.argv[1:2]])[:80]


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
        return True  # a process of another user
    return True


def _runs_on_windows(pid: int) -> bool:
    # On Windows, os.kill would end the process.
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return False
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE
