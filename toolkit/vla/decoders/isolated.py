"""Any other decoder, in a process of its own: a video that crashes it, hangs it or fills its memory costs that video.

Decoders are large and old, and videos come from anywhere. The child process has limits on memory and files, talks in
lines of JSON and puts pictures into shared memory; nothing it says is trusted beyond its numbers being in range.
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
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from vla.decoders.base import DecodeReport
from vla.errors import DecodeError, EnvironmentUnfitError
from vla.sampling import Sampling
from vla.video import Frames, Video

_NOTHING = DecodeReport(0.0, 0.0, 0, "", False)


class Decoder:
    """Decoding in child processes, one for each video that is open at the same time; they are used again.

    Args:
        inner: name of the decoder that works inside.
        max_pixels: passed on to it.
        memory: bytes of address space a child may have.
        patience: seconds without any sign of life after which a child counts as hung.

    Raises:
        EnvironmentUnfitError: this system cannot hand a file over to a child (Windows).
    """

    def __init__(
        self, inner: str = "pyav", max_pixels: int = 8192 * 8192, memory: int = 6 << 30, patience: float = 60.0
    ) -> None:
        if os.name != "posix":
            raise EnvironmentUnfitError("decoding in processes of their own needs a POSIX system: use --decoder pyav")
        self._settings = {"inner": inner, "max_pixels": max_pixels, "memory": memory}
        self._patience = patience
        self._idle: list[_Child] = []
        self._lock = threading.Lock()

    def open(self, path: Path) -> IsolatedReader:
        """A reader of the video at `path`.

        Raises:
            DecodeError: what the inner decoder raises; and `crashed`, `hung` or `memory` from here or while reading.
        """
        with self._lock:
            child = self._idle.pop() if self._idle else None
        child = child or _Child(self._settings, self._patience)
        try:
            return IsolatedReader(self, child, path)
        except BaseException:
            self._take_back(child)
            raise

    def probe(self, path: Path) -> Video:
        """What the file says of itself."""
        with self.open(path) as reader:
            return reader.video

    def close(self) -> None:
        """End the idle child processes; they also end with this process."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()

    def _take_back(self, child: _Child) -> None:
        if child.is_well:
            with self._lock:
                self._idle.append(child)
        else:
            child.end()


class IsolatedReader:
    """One open file in a child process; see `vla.decoders.base.Reader`."""

    def __init__(self, owner: Decoder, child: _Child, path: Path) -> None:
        self._owner, self._child, self._path = owner, child, path
        child.send({"open": os.fsencode(os.path.abspath(path)).hex()})  # noqa: PTH100 - links in the name are the user's
        record = self._receive("video")
        self.video = Video(
            path, float(record[0]), float(record[1]), int(record[2]), int(record[3]), str(record[4])[:40]
        )
        self.report = _NOTHING

    def sample(self, sampling: Sampling, chunk: int = 32) -> Iterator[Frames]:
        """The frames that `sampling` chooses, each once; see the base class."""
        return self._stream({"sample": str(sampling)}, chunk)

    def frames_at(self, timestamps_seconds: np.ndarray) -> Frames:
        """The frame on screen at each of the ascending times."""
        times = [float(t) for t in timestamps_seconds]
        return next(
            self._stream({"frames_at": times}, max(1, len(times))),
            Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0)),
        )

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner._take_back(self._child)

    def _stream(self, command: dict[str, Any], chunk: int) -> Iterator[Frames]:
        self.report = _NOTHING
        pixels: list[np.ndarray] = []
        times: list[float] = []
        self._child.send(command)
        self._child.is_streaming = True
        try:
            while True:
                kind, value = self._next()
                if kind == "end":
                    break
                if kind != "frame":
                    raise self._nonsense()
                pixels.append(self._child.picture(value))
                times.append(float(value[3]))
                if len(pixels) == chunk:
                    yield self._frames(pixels, times)
                    pixels, times = [], []
        finally:
            self._stop()
        if pixels:
            yield self._frames(pixels, times)

    def _stop(self) -> None:
        """Bring the child back to where it waits for a command, whatever it was sending."""
        if not self._child.is_well or not self._child.is_streaming:
            return
        self._child.tell(b"s")
        while True:
            kind, value = self._next(stopping=True)
            if kind == "stopped":
                self._child.is_streaming = False
                with suppress(TypeError, ValueError):
                    self.report = DecodeReport(
                        *(t(v) for t, v in zip((float, float, int, str, bool), value, strict=True))
                    )
                return

    def _frames(self, pixels: list[np.ndarray], times: list[float]) -> Frames:
        try:
            return Frames(np.stack(pixels), np.array(times))
        except ValueError as error:
            raise self._nonsense() from error

    def _receive(self, kind: str) -> Any:
        found, value = self._next()
        if found != kind:
            raise self._nonsense()
        return value

    def _next(self, stopping: bool = False) -> tuple[str, Any]:
        try:
            kind, value = self._child.receive()
        except _GoneError as error:
            self._child.is_well = False
            raise DecodeError(f"{self._path.name}: {error}", error.reason) from None
        if kind == "error" and not stopping:
            message, reason = (str(v)[:2000] for v in value)
            raise DecodeError(f"{self._path.name}: {message}", reason)
        return kind, value

    def _nonsense(self) -> DecodeError:
        self._child.is_well = False
        return DecodeError(f"{self._path.name}: the decoder's process answered nonsense", "crashed")


class _GoneError(Exception):
    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Child:
    """A process that decodes, and the memory it shares with us."""

    def __init__(self, settings: dict[str, Any], patience: float) -> None:
        self.is_well, self.is_streaming = True, False
        self._patience = patience
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
        self._lines: queue.Queue[bytes] = queue.Queue()
        # A thread reads, because only a queue can be waited for with a time limit on every system.
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._ring, self._errors)

    def send(self, command: dict[str, Any]) -> None:
        self.tell(json.dumps(command).encode("ascii") + b"\n")

    def tell(self, content: bytes) -> None:
        with suppress(OSError):  # it is gone: the next `receive` says so
            assert self._process.stdin is not None
            self._process.stdin.write(content)

    def receive(self) -> tuple[str, Any]:
        """The next message that is not a mere sign of life."""
        while True:
            try:
                line = self._lines.get(timeout=self._patience)
            except queue.Empty:
                self._process.kill()
                raise _GoneError(f"the decoder hung: no sign of life for {self._patience:g} s", "hung") from None
            if not line:
                raise self._obituary()
            try:
                kind, value = json.loads(line)
            except ValueError:
                raise _GoneError("the decoder's process answered nonsense", "crashed") from None
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
            raise _GoneError("the decoder's process answered nonsense", "crashed")
        if self._shared is None or len(self._shared) < end:
            length = os.fstat(self._ring).st_size
            if length < end:
                raise _GoneError("the decoder's process answered nonsense", "crashed")
            self._shared = mmap.mmap(self._ring, length)
        found = np.frombuffer(self._shared, np.uint8, size, offset).reshape(height, width, 3).copy()
        self.tell(b"f")
        return found

    def end(self) -> None:
        """Kill it; nothing it holds is of worth."""
        self._finalizer()

    def _obituary(self) -> _GoneError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        if "MemoryError" in "".join(said[-1:]):
            return _GoneError("it needs more memory than a decoder may have", "memory")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
        return _GoneError(f"the decoder crashed ({name}{': ' + said[-1] if said else ''})", "crashed")


def _anonymous_file() -> int:
    """A file without a name: in memory where the system has such, so that nothing is left behind."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vla-pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _read_lines(stream: Any, lines: queue.Queue[bytes]) -> None:
    with suppress(OSError, ValueError), os.fdopen(os.dup(stream.fileno()), "rb") as buffered:
        while line := buffered.readline(1 << 20):
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
