"""Our side of a process that decodes: `_child.py` is the other. Nothing it says is trusted beyond its numbers being in range."""

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
import weakref
from contextlib import suppress
from typing import IO, Any

import numpy as np

_MOST_LINES, _LONGEST_LINE = 256, 1 << 16
"""What a child may say before it is listened to; the longest honest line is an error's message."""
_STARTING = 120.0
"""Seconds in which a child says that it is there: a process that imports what decodes may wait long for a busy machine."""


class GoneError(Exception):
    """The child cannot be asked any more; `reason` is as for `DecodeError`."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Child:
    """A process that decodes, and the memory it shares with us.

    Attributes:
        is_well: False once it is gone, or has said what no decoder says.
        is_streaming: it is sending frames, and waits for nothing but to be told that they were fetched, or to stop.
    """

    def __init__(self, settings: dict[str, Any], patience: float) -> None:
        self.is_well, self.is_streaming = True, False
        self._patience, self._waits = patience, max(patience, _STARTING)
        self._ring = _anonymous_file()
        self._shared: mmap.mmap | None = None
        self._errors = tempfile.TemporaryFile()
        paths = os.pathsep.join(p for p in sys.path if p)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from vla.decoders._child import main; main()", json.dumps(settings), str(self._ring)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, pass_fds=[self._ring], bufsize=0,
            # Ctrl-C is for us to answer: the child is told to stop, or ends when its pipe does.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._lines: queue.Queue[bytes] = queue.Queue(_MOST_LINES)
        # A thread reads, because only a queue can be waited for with a time limit on every system.
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._ring, self._errors)

    def send(self, command: dict[str, Any]) -> None:
        self.tell(json.dumps(command).encode("ascii") + b"\n")

    def tell(self, content: bytes) -> None:
        with suppress(OSError, ValueError):  # it is gone: the next `receive` says so
            assert self._process.stdin is not None
            self._process.stdin.write(content)

    def receive(self) -> tuple[str, Any]:
        """The next message that is not a mere sign of life."""
        while True:
            try:
                line = self._lines.get(timeout=self._waits)
            except queue.Empty:
                self._process.kill()
                raise GoneError(f"the decoder hung: no sign of life for {self._waits:g} s", "hung") from None
            self._waits = self._patience
            if not line:
                raise self._obituary()
            try:
                kind, value = json.loads(line)
            except (TypeError, ValueError, RecursionError):
                raise GoneError("the decoder's process answered nonsense", "crashed") from None
            if kind != "alive":
                return str(kind), value

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
            raise GoneError("the decoder's process answered nonsense", "crashed")
        if self._shared is None or len(self._shared) < end:
            length = os.fstat(self._ring).st_size
            if length < end:
                raise GoneError("the decoder's process answered nonsense", "crashed")
            self._shared = mmap.mmap(self._ring, length)
        found = np.frombuffer(self._shared, np.uint8, size, offset).reshape(height, width, 3).copy()
        self.tell(b"f")
        return found

    def end(self) -> None:
        """Kill it; nothing it holds is of worth."""
        self.is_well = False
        self._finalizer()
        with suppress(queue.Empty):  # or the thread that reads would wait for room for ever
            while True:
                self._lines.get_nowait()

    def _obituary(self) -> GoneError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        if "MemoryError" in "".join(said[-1:]):
            return GoneError("it needs more memory than a decoder may have", "memory")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
        return GoneError(f"the decoder crashed ({name}{': ' + said[-1] if said else ''})", "crashed")


def _anonymous_file() -> int:
    """A file without a name: in memory where the system has such, so that nothing is left behind."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vla-pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _read_lines(stream: Any, lines: queue.Queue[bytes]) -> None:
    with suppress(OSError, ValueError), os.fdopen(os.dup(stream.fileno()), "rb") as buffered:
        while line := buffered.readline(_LONGEST_LINE):
            lines.put(line)
    lines.put(b"")


def _end(process: subprocess.Popen[bytes], ring: int, errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    errors.close()
    os.close(ring)
