"""Parent side of a decoding process; `_worker_main.py` is the child side.

Messages of the child are untrusted: only numbers are taken, and each is checked to be in range.
"""

from __future__ import annotations

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
from typing import Any

import numpy as np

from vla.decoders._worker_failure import (
    INVALID_MESSAGE,
    WorkerDiedError,
    crash_error,
    shortage_error,
    silence_error,
    start_error,
)

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
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    pass_fds=[self._ring],
                    bufsize=0,
                    # This process handles Ctrl-C: the child is told to stop, or ends with its pipe.
                    start_new_session=True,
                    env=environment(),
                )
                stack.callback(_end, self._process)
                _listen(self._process, self._lines)
                self._finalizer = weakref.finalize(self, stack.pop_all().close)
        except (OSError, RuntimeError) as error:
            raise start_error(error) from error

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
                raise shortage_error(value)
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
        raise silence_error(timeout, self._has_started)

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

    def _crash_error(self) -> Exception:
        """Return the error for a worker whose process ended."""
        code = _wait(self._process)
        self._errors.seek(0)
        output = self._errors.read()[-2000:].decode("utf-8", "replace")
        return crash_error(code, output, self._has_started, self._memory)


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
