"""Failures of a decoding process and their causes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

from vla.causes import reason_of
from vla.errors import EnvironmentUnfitError, ResourceError
from vla.hints import Hint

_EXTERNAL_SIGNALS = (
    "SIGKILL",
    "SIGTERM",
    "SIGINT",
    "SIGHUP",
    "SIGQUIT",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGPWR",
    "SIGSYS",
)

INVALID_MESSAGE = "the decoder worker sent an invalid message"


class WorkerDiedError(Exception):
    """The worker can no longer be used; `reason` is as for `DecodeError`."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def start_error(error: OSError | RuntimeError) -> Exception:
    """Return the error for a process (OSError) or thread (RuntimeError) that cannot start."""
    message = f"cannot start a decoding process: {getattr(error, 'strerror', None) or error}"
    if not isinstance(error, OSError) or reason_of(error) == "resources":
        return ResourceError(
            f"{message}. Free memory, files or processes (ulimit -a), then run the same command "
            f"again"
        )
    return EnvironmentUnfitError(f"{message} ({sys.executable})", hint=Hint("decode_in_process"))


def silence_error(seconds: float, has_started: bool) -> Exception:
    """Return the error for a process that sent nothing for `seconds`.

    Args:
        seconds: the limit.
        has_started: whether it had reported that it is ready.
    """
    if has_started:
        return WorkerDiedError(f"the decoder hung: no heartbeat for {seconds:g} s", "hung")
    return EnvironmentUnfitError(
        f"the decoder's process did not start within {seconds:g} s: the machine is too "
        f"busy, or {sys.executable} cannot run here"
    )


def shortage_error(value: Any) -> WorkerDiedError:
    """Return the error for a process that could not allocate memory for its frames.

    Args:
        value: the system's error number, as the process sent it.
    """
    number = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if number == errno.EFBIG and not _is_limited("RLIMIT_FSIZE"):
        return WorkerDiedError("its pictures exceed the size limit of a decoder", "too-large")
    return WorkerDiedError(
        f"no memory could be allocated for its pictures ({os.strerror(number)})", "resources"
    )


def crash_error(code: int, output: str, has_started: bool, memory: int) -> Exception:
    """Return the error for a process that ended.

    Args:
        code: its exit status; the negative number of the signal that ended it.
        output: end of what it wrote to its standard error.
        has_started: whether it had reported that it is ready.
        memory: maximum of its address space, in bytes.
    """
    stderr_lines = output.strip().splitlines()
    last_line = f": {stderr_lines[-1]}" if stderr_lines else ""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
    is_short = "MemoryError" in last_line or name == "SIGKILL"
    if not has_started:
        message = f"the decoder's process cannot start ({name}{last_line})"
        if is_short:
            return ResourceError(f"{message}: free some memory, or raise the limit (ulimit -v)")
        return EnvironmentUnfitError(message, hint=Hint("doctor"))
    if "MemoryError" in last_line:
        if _is_limited("RLIMIT_AS", memory):
            return WorkerDiedError(
                "it needs more memory than the limit (ulimit -v) allows", "resources"
            )
        return WorkerDiedError(
            f"it needs more memory than a decoder may have ({memory >> 20} MiB)", "memory"
        )
    if name == "SIGPROF":
        return WorkerDiedError(
            "the decoder hung: it computed for too long without a heartbeat", "endless"
        )
    if name in _EXTERNAL_SIGNALS:
        hint = ", as the system does when memory is short" if is_short else ""
        return WorkerDiedError(f"the decoder was killed from outside ({name}{hint})", "killed")
    return WorkerDiedError(f"the decoder crashed ({name}{last_line})", "crashed")


def _is_limited(name: str, num_bytes: int = -1) -> bool:
    """Return whether the resource limit `name` is finite, and below `num_bytes`."""
    try:
        import resource

        hard = resource.getrlimit(getattr(resource, name))[1]
        return hard != resource.RLIM_INFINITY and (num_bytes < 0 or hard < num_bytes)
    except (ImportError, AttributeError, OSError, ValueError):
        return False
