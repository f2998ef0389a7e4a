"""Parent side of a decoding process; `_worker_main.py` is the child side.

Messages of the child are untrusted: only numbers are taken, and each is checked to be in range.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from vla.causes import unreadable_reason
from vla.errors import EnvironmentUnfitError, ResourceError
from vla.hints import Hint

_MAX_LINES, _MAX_LINE_BYTES = 256, 1 << 16
"""Capacity of the queue of unread messages; the longest valid line is an error message."""
_STARTUP_TIMEOUT = 120.0
"""Limit in seconds for a child to report that it is ready: its imports may be slow."""
_PROGRAM = "from vla.decoders._worker_main import main; main()"
_WAIT_STEP = 1.0
"""Seconds of one wait. A suspended machine or stopped process adds one such step to the silence."""
_EXIT_TIMEOUT = 5.0
"""Limit in seconds for a killed child to exit; one that waits for a dead disk may never exit."""
_VARIABLES = frozenset(
    [
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "TEMP",
        "TMP",
        "TZ",
        "SYSTEMROOT",
        "SYSTEMDRIVE",
        "VIRTUAL_ENV",
        "CUDA_VISIBLE_DEVICES",
    ]
)
_VARIABLE_PREFIXES = ("LC_", "LD_", "DYLD_", "PYTHON", "NVIDIA_")
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


class DecoderWorker:
    """A decoding process and the memory that it shares with this one.

    Attributes:
        is_usable: False once the process ended or sent an invalid message.
        is_streaming: whether the process is sending frames. It then accepts only acknowledgements
            of fetched frames, or a request to stop.
    """

    def __init__(self, settings: dict[str, Any], timeout: float) -> None:
        self.is_usable, self.is_streaming, self._has_started = True, False, False
        self._timeout, self._memory = timeout, int(settings["memory"])
        self._mapping: mmap.mmap | None = None
        self._lines: queue.Queue[bytes] = queue.Queue(_MAX_LINES)
        try:
            with ExitStack() as stack:
                self._ring = _anonymous_file()
                stack.callback(os.close, self._ring)
                self._errors = stack.enter_context(tempfile.TemporaryFile())
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, json.dumps(settings), str(self._ring)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, pass_fds=[self._ring], bufsize=0,
                    # This process handles Ctrl-C: the child is told to stop, or ends with its pipe.
                    start_new_session=True, env=environment(),
                )  # fmt: skip
                stack.callback(_end, self._process)
                _listen(self._process, self._lines)
                self._finalizer = weakref.finalize(self, stack.pop_all().close)
        except (OSError, RuntimeError) as error:
            raise _cannot_start(error) from error

    def send(self, command: dict[str, Any]) -> None:
        self.send_bytes(json.dumps(command).encode("ascii") + b"\n")

    def send_bytes(self, content: bytes) -> None:
        with suppress(OSError, ValueError):  # the process ended: the next `receive` reports it
            assert self._process.stdin is not None
            self._process.stdin.write(content)

    def receive(self) -> tuple[str, Any]:
        """Return the kind and the value of the next message that is not a heartbeat.

        Raises:
            WorkerDiedError: the process crashed, hung or was killed while it handled a video.
            ResourceError, EnvironmentUnfitError: it failed before it could handle a video.
        """
        while True:
            line = self._line()
            if not line:
                raise self._crash_error()
            self._has_started = True
            try:
                kind, value = json.loads(line)
            except (TypeError, ValueError, RecursionError):
                raise WorkerDiedError(INVALID_MESSAGE, "crashed") from None
            if kind == "shortage":
                raise self._shortage(value)
            if kind != "heartbeat":
                return str(kind), value

    def _line(self) -> bytes:
        """Return the next line; empty at the end of the stream.

        Silence is measured in short waits, so that time while this process was stopped does not
        count.
        """
        timeout = self._timeout if self._has_started else max(self._timeout, _STARTUP_TIMEOUT)
        silence, step = 0.0, min(_WAIT_STEP, timeout / 10)
        while silence < timeout:
            start = time.monotonic()
            try:
                return self._lines.get(timeout=step)
            except queue.Empty:
                silence += min(time.monotonic() - start, 2 * step)
        self._process.kill()
        if not self._has_started:
            raise EnvironmentUnfitError(
                f"the decoder's process did not start within {timeout:g} s: the machine is too "
                f"busy, or {sys.executable} cannot "
                "run here"
            )
        raise WorkerDiedError(f"the decoder hung: no heartbeat for {timeout:g} s", "hung")

    def read_frame(self, location: Any) -> np.ndarray:
        """Return a copy of the `(h, w, 3)` uint8 frame at `location`, and free its slot.

        Args:
            location: offset in bytes, height, width and time in seconds, as the worker sent them.
        """
        try:
            offset, height, width, seconds = location
            size = height * width * 3
            is_valid = all(
                isinstance(v, int) and v >= 0 for v in (offset, height, width)
            ) and math.isfinite(seconds)
            end = offset + size
        except (TypeError, ValueError):
            is_valid = False
        if not is_valid or not 0 < size <= 1 << 31:
            raise WorkerDiedError(INVALID_MESSAGE, "crashed")
        if self._mapping is None or len(self._mapping) < end:
            length = os.fstat(self._ring).st_size
            if length < end:
                raise WorkerDiedError(INVALID_MESSAGE, "crashed")
            self._mapping = mmap.mmap(self._ring, length)
        pixels = (
            np.frombuffer(self._mapping, np.uint8, size, offset).reshape(height, width, 3).copy()
        )
        self.send_bytes(b"f")
        return pixels

    def release_frames(self) -> None:
        """Release the mapping of shared frames; no frame may be read afterwards."""
        self._mapping = None

    def end(self) -> None:
        """Kill the process."""
        self.is_usable = False
        self._finalizer()
        with suppress(queue.Empty):  # the reading thread must not block on a full queue
            while True:
                self._lines.get_nowait()

    def _shortage(self, value: Any) -> Exception:
        """Return the error for a worker that could not allocate memory for its frames.

        Args:
            value: the system's error number.
        """
        number = value if isinstance(value, int) and not isinstance(value, bool) else 0
        reason = os.strerror(number)
        if number == errno.EFBIG and not _is_limited("RLIMIT_FSIZE"):
            return WorkerDiedError("its pictures exceed the size limit of a decoder", "too-large")
        return WorkerDiedError(
            f"no memory could be allocated for its pictures ({reason})", "resources"
        )

    def _crash_error(self) -> Exception:
        """Return the error for a worker whose process ended."""
        code = _wait(self._process)
        self._errors.seek(0)
        stderr_lines = self._errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        last_line = f": {stderr_lines[-1]}" if stderr_lines else ""
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
        is_short = "MemoryError" in last_line or name == "SIGKILL"
        if not self._has_started:
            message = f"the decoder's process cannot start ({name}{last_line})"
            if is_short:
                return ResourceError(f"{message}: free some memory, or raise the limit (ulimit -v)")
            return EnvironmentUnfitError(message, hint=Hint("doctor"))
        if "MemoryError" in last_line:
            if _is_limited("RLIMIT_AS", self._memory):
                return WorkerDiedError(
                    "it needs more memory than the limit (ulimit -v) allows", "resources"
                )
            return WorkerDiedError(
                f"it needs more memory than a decoder may have ({self._memory >> 20} MiB)", "memory"
            )
        if name == "SIGPROF":
            return WorkerDiedError(
                "the decoder hung: it computed for too long without a heartbeat", "endless"
            )
        if name in _EXTERNAL_SIGNALS:
            hint = ", as the system does when memory is short" if is_short else ""
            return WorkerDiedError(f"the decoder was killed from outside ({name}{hint})", "killed")
        return WorkerDiedError(f"the decoder crashed ({name}{last_line})", "crashed")


def environment() -> dict[str, str]:
    """Return the environment variables that a worker needs: paths and locale.

    Others are withheld, since they may contain secrets.
    """
    variables = {
        k: v
        for k, v in os.environ.items()
        if k.upper() in _VARIABLES or k.upper().startswith(_VARIABLE_PREFIXES)
    }
    paths = os.pathsep.join(p for p in sys.path if p)
    return {**variables, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _cannot_start(error: Exception) -> Exception:
    """Return the error for a process (OSError) or a reading thread (RuntimeError) that cannot start."""
    shortage = not isinstance(error, OSError) or (
        unreadable_reason(Path(), error).reason == "resources"
    )
    message = f"cannot start a decoding process: {getattr(error, 'strerror', None) or error}"
    if shortage:
        return ResourceError(
            f"{message}. Free memory, files or processes (ulimit -a), then run the same command "
            f"again"
        )
    return EnvironmentUnfitError(f"{message} ({sys.executable})", hint=Hint("decode_in_process"))


def _is_limited(name: str, num_bytes: int = -1) -> bool:
    """Return whether the resource limit `name` is finite, and below `num_bytes`."""
    try:
        import resource

        hard = resource.getrlimit(getattr(resource, name))[1]
        return hard != resource.RLIM_INFINITY and (num_bytes < 0 or hard < num_bytes)
    except (ImportError, AttributeError, OSError, ValueError):
        return False


def _anonymous_file() -> int:
    """Return the descriptor of an unnamed file, in memory if the system supports it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vla-pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _listen(process: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    """Read the output of `process` into `lines`: a queue supports timeouts on every system."""
    assert process.stdout is not None
    handle = os.dup(process.stdout.fileno())
    try:
        threading.Thread(target=_read_lines, args=(handle, lines), daemon=True).start()
    except BaseException:
        os.close(handle)
        raise


def _read_lines(handle: int, lines: queue.Queue[bytes]) -> None:
    with suppress(OSError, ValueError), os.fdopen(handle, "rb") as reader:
        while line := reader.readline(_MAX_LINE_BYTES):
            lines.put(line)
    lines.put(b"")


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status of a process that closed its pipe; kill it if it does not exit."""
    try:
        return process.wait(_EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        return process.wait(_EXIT_TIMEOUT)
    return -signal.SIGKILL


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_EXIT_TIMEOUT)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
