"""Our side of a process that decodes: `_child.py` is the other. Nothing it says is trusted beyond its numbers being in range."""

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

_MOST_LINES, _LONGEST_LINE = 256, 1 << 16
"""What a child may say before it is listened to; the longest honest line is an error's message."""
_STARTING = 120.0
"""Seconds in which a child says that it is there: a process that imports what decodes may wait long for a busy machine."""
_PROGRAM = "from vla.decoders._worker_main import main; main()"
_SLICE = 1.0
"""Seconds of one short wait. A machine that sleeps, or a process that is stopped, adds one of these to what counts as silence."""
_ENDING = 5.0
"""Seconds in which a killed child ends; one that waits for a disk that does not answer may take for ever."""
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
_FAMILIES = ("LC_", "LD_", "DYLD_", "PYTHON", "NVIDIA_")
_NOT_OF_CONTENT = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGXFSZ", "SIGPWR", "SIGSYS")


class WorkerDiedError(Exception):
    """The child cannot be asked any more; `reason` is as for `DecodeError`."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DecoderWorker:
    """A process that decodes, and the memory it shares with us.

    Attributes:
        is_well: False once it is gone, or has said what no decoder says.
        is_streaming: it is sending frames, and waits for nothing but to be told that they were fetched, or to stop.
    """

    def __init__(self, settings: dict[str, Any], patience: float) -> None:
        self.is_well, self.is_streaming, self._has_started = True, False, False
        self._patience, self._memory = patience, int(settings["memory"])
        self._shared: mmap.mmap | None = None
        self._lines: queue.Queue[bytes] = queue.Queue(_MOST_LINES)
        try:
            with ExitStack() as started:
                self._ring = _anonymous_file()
                started.callback(os.close, self._ring)
                self._errors = started.enter_context(tempfile.TemporaryFile())
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, json.dumps(settings), str(self._ring)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, pass_fds=[self._ring], bufsize=0,
                    # Ctrl-C is for us to answer: the child is told to stop, or ends when its pipe does.
                    start_new_session=True, env=environment(),
                )  # fmt: skip
                started.callback(_end, self._process)
                _listen(self._process, self._lines)
                self._finalizer = weakref.finalize(self, started.pop_all().close)
        except (OSError, RuntimeError) as error:
            raise _cannot_start(error) from error

    def send(self, command: dict[str, Any]) -> None:
        self.tell(json.dumps(command).encode("ascii") + b"\n")

    def tell(self, content: bytes) -> None:
        with suppress(OSError, ValueError):  # it is gone: the next `receive` says so
            assert self._process.stdin is not None
            self._process.stdin.write(content)

    def receive(self) -> tuple[str, Any]:
        """The next message that is not a mere sign of life.

        Raises:
            GoneError: the child crashed, hung or was killed over a video.
            ResourceError, EnvironmentUnfitError: it never came as far as a video.
        """
        while True:
            line = self._line()
            if not line:
                raise self._obituary()
            self._has_started = True
            try:
                kind, value = json.loads(line)
            except (TypeError, ValueError, RecursionError):
                raise WorkerDiedError("the decoder's process answered nonsense", "crashed") from None
            if kind == "shortage":
                raise self._shortage(value)
            if kind != "alive":
                return str(kind), value

    def _line(self) -> bytes:
        """The next line; empty at the end. Silence is counted in short waits, so that time in which we stood still is none."""
        patience = self._patience if self._has_started else max(self._patience, _STARTING)
        silence, step = 0.0, min(_SLICE, patience / 10)
        while silence < patience:
            began = time.monotonic()
            try:
                return self._lines.get(timeout=step)
            except queue.Empty:
                silence += min(time.monotonic() - began, 2 * step)
        self._process.kill()
        if not self._has_started:
            raise EnvironmentUnfitError(
                f"the decoder's process did not start within {patience:g} s: the machine is too busy, or {sys.executable} cannot "
                "run here"
            )
        raise WorkerDiedError(f"the decoder hung: no sign of life for {patience:g} s", "hung")

    def picture(self, place: Any) -> np.ndarray:
        """A copy of the `(h, w, 3)` picture at `place` (offset, height, width, seconds); frees its room."""
        try:
            offset, height, width, seconds = place
            size = height * width * 3
            sound = all(isinstance(v, int) and v >= 0 for v in (offset, height, width)) and math.isfinite(seconds)
            end = offset + size
        except (TypeError, ValueError):
            sound = False
        if not sound or not 0 < size <= 1 << 31:
            raise WorkerDiedError("the decoder's process answered nonsense", "crashed")
        if self._shared is None or len(self._shared) < end:
            length = os.fstat(self._ring).st_size
            if length < end:
                raise WorkerDiedError("the decoder's process answered nonsense", "crashed")
            self._shared = mmap.mmap(self._ring, length)
        found = np.frombuffer(self._shared, np.uint8, size, offset).reshape(height, width, 3).copy()
        self.tell(b"f")
        return found

    def drop_pictures(self) -> None:
        """Give back the memory of pictures that were shared; none may be read any more."""
        self._shared = None

    def end(self) -> None:
        """Kill it; nothing it holds is of worth."""
        self.is_well = False
        self._finalizer()
        with suppress(queue.Empty):  # or the thread that reads would wait for room for ever
            while True:
                self._lines.get_nowait()

    def _shortage(self, value: Any) -> Exception:
        """The error for a child that has no room for its pictures; `value` is the system's error number."""
        number = value if isinstance(value, int) and not isinstance(value, bool) else 0
        why = os.strerror(number)
        if number == errno.EFBIG and not _is_limited("RLIMIT_FSIZE"):
            return WorkerDiedError("its pictures are larger than a decoder may make them", "too-large")
        return WorkerDiedError(f"no memory could be had for its pictures ({why})", "resources")

    def _obituary(self) -> Exception:
        code = _wait(self._process)
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        last = f": {said[-1]}" if said else ""
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
        is_short = "MemoryError" in last or name == "SIGKILL"
        if not self._has_started:
            message = f"the decoder's process cannot start ({name}{last})"
            if is_short:
                return ResourceError(f"{message}: free some memory, or raise the limit (ulimit -v)")
            return EnvironmentUnfitError(message, hint=Hint("doctor"))
        if "MemoryError" in last:
            if _is_limited("RLIMIT_AS", self._memory):
                return WorkerDiedError("it needs more memory than the limit (ulimit -v) allows", "resources")
            return WorkerDiedError(f"it needs more memory than a decoder may have ({self._memory >> 20} MiB)", "memory")
        if name == "SIGPROF":
            return WorkerDiedError("the decoder hung: it computed for a long time without a sign of life", "endless")
        if name in _NOT_OF_CONTENT:
            hint = ", as the system does when memory is short" if is_short else ""
            return WorkerDiedError(f"the decoder was ended from outside ({name}{hint})", "killed")
        return WorkerDiedError(f"the decoder crashed ({name}{last})", "crashed")


def environment() -> dict[str, str]:
    """The variables that a child needs: where programs, libraries and languages are. No others, since they may hold secrets."""
    kept = {k: v for k, v in os.environ.items() if k.upper() in _VARIABLES or k.upper().startswith(_FAMILIES)}
    paths = os.pathsep.join(p for p in sys.path if p)
    return {**kept, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _cannot_start(error: Exception) -> Exception:
    """The error for a process that the system does not give us; a thread that it does not give is a RuntimeError."""
    shortage = isinstance(error, RuntimeError) or unreadable_reason(Path(), error).reason == "resources"  # type: ignore[arg-type]
    message = f"no process can be started to decode in: {getattr(error, 'strerror', None) or error}"
    if shortage:
        return ResourceError(f"{message}. Free memory, files or processes (ulimit -a), then run the same command again")
    return EnvironmentUnfitError(f"{message} ({sys.executable})", hint=Hint("decode_in_process"))


def _is_limited(name: str, wanted: int = -1) -> bool:
    """True where this process was started with a limit called `name`, below `wanted` if that is given."""
    try:
        import resource

        hard = resource.getrlimit(getattr(resource, name))[1]
        return hard != resource.RLIM_INFINITY and (wanted < 0 or hard < wanted)
    except (ImportError, AttributeError, OSError, ValueError):
        return False


def _anonymous_file() -> int:
    """A file without a name: in memory where the system has such, so that nothing is left behind."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vla-pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _listen(process: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    """Put what `process` says into `lines`: only a queue can be waited for with a time limit on every system."""
    assert process.stdout is not None
    handle = os.dup(process.stdout.fileno())
    try:
        threading.Thread(target=_read_lines, args=(handle, lines), daemon=True).start()
    except BaseException:
        os.close(handle)
        raise


def _read_lines(handle: int, lines: queue.Queue[bytes]) -> None:
    with suppress(OSError, ValueError), os.fdopen(handle, "rb") as buffered:
        while line := buffered.readline(_LONGEST_LINE):
            lines.put(line)
    lines.put(b"")


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process that closed its pipe; one that does not end is killed."""
    try:
        return process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        return process.wait(_ENDING)
    return -signal.SIGKILL


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
