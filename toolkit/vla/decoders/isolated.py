"""Decoding in separate processes: a video that crashes or hangs a decoder costs only itself.

Decoders are large and old, and videos come from anywhere. The child process has limits on memory
and files. It sends messages as lines of JSON and writes frames to shared memory. Its messages are
untrusted: only numbers are taken, and each is checked to be in range.

A failure of the child is not always caused by the video: `vla.causes` distinguishes the reasons.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vla.decoders._worker import DecoderWorker
from vla.decoders._worker_failure import INVALID_MESSAGE, WorkerDiedError
from vla.decoders.base import DecodeReport
from vla.errors import DecodeError, EnvironmentUnfitError, ResourceError
from vla.hints import Hint
from vla.sampling import Sampling
from vla.video import Frames, Video

_EMPTY_REPORT = DecodeReport(0.0, 0.0, 0, "", False)
_REPORT_TYPES = (
    float,
    float,
    int,
    str,
    bool,
    int,
    int,
    float,
    bool,
    bool,
)  # of its fields, in order


class Decoder:
    """Decoder in reusable child processes, one for each video that is open at the same time.

    Args:
        inner: name of the decoder that the child processes use.
        max_pixels: passed on to it.
        memory: maximum address space of a child, in bytes.
        timeout: seconds without a heartbeat until a child that has started counts as hung. Time
            while the machine is suspended, or this process is stopped, does not count.
        cpu_timeout: seconds of processor time without a heartbeat until a child counts as stuck in
            an endless loop.

    Raises:
        EnvironmentUnfitError: this system cannot share a file with a child (Windows).
    """

    def __init__(
        self,
        inner: str = "pyav",
        max_pixels: int = 8192 * 8192,
        memory: int = 6 << 30,
        timeout: float = 60.0,
        cpu_timeout: float = 20.0,
    ) -> None:
        if os.name != "posix":
            raise EnvironmentUnfitError(
                "decoding in separate processes needs a POSIX system",
                hint=Hint("decode_in_process"),
            )
        self._settings = {
            "inner": inner,
            "max_pixels": max_pixels,
            "memory": memory,
            "cpu_timeout": cpu_timeout,
        }
        self._timeout = timeout
        self._idle: list[DecoderWorker] = []
        self._lock = threading.Lock()

    def open(self, path: Path) -> IsolatedReader:
        """Return a reader of the video at `path`.

        Raises:
            DecodeError: with the reasons of the inner decoder, or `crashed`, `endless`, `memory`,
                `hung`, `killed` or `resources`. Reading may raise it too.
            ResourceError: the system has no process, or too little memory for one.
            EnvironmentUnfitError: the child does not start.
        """
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or DecoderWorker(self._settings, self._timeout)
        try:
            return IsolatedReader(self, worker, path)
        except BaseException:
            self._recycle(worker)
            raise

    def probe(self, path: Path) -> Video:
        """Return the metadata that the file declares."""
        with self.open(path) as reader:
            return reader.video

    def close(self) -> None:
        """End the idle child processes. They also end with this process."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def _recycle(self, worker: DecoderWorker) -> None:
        # A worker that is still sending would send frames of this video to the next reader.
        if worker.is_usable and not worker.is_streaming:
            with self._lock:
                self._idle.append(worker)
        else:
            worker.end()


class IsolatedReader:
    """Reader of one open file in a child process; see `vla.decoders.base.Reader`."""

    def __init__(self, owner: Decoder, worker: DecoderWorker, path: Path) -> None:
        self._owner, self._worker, self._path = owner, worker, path
        self._generation = 0
        worker.send({"open": os.fsencode(os.path.abspath(path)).hex()})  # noqa: PTH100 - keep symbolic links
        record = self._receive("video")
        try:
            seconds, fps, width, height, codec = record
            self.video = Video(
                path, float(seconds), float(fps), int(width), int(height), str(codec)[:40]
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise self._protocol_error() from error
        self.report = _EMPTY_REPORT

    def sample(self, sampling: Sampling, chunk: int = 32) -> Iterator[Frames]:
        """Yield the frames that `sampling` chooses, each once; see the base class."""
        return self._stream({"sample": str(sampling)}, chunk)

    def frames_at(self, timestamps_seconds: np.ndarray, max_width: int | None = None) -> Frames:
        """Return the frame on screen at each of the ascending times; the child reduces them."""
        times = [float(t) for t in timestamps_seconds]
        return next(
            self._stream({"frames_at": [times, max_width]}, max(1, len(times))),
            Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0)),
        )

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._generation += 1
        self._owner._recycle(self._worker)

    def _stream(self, command: dict[str, Any], chunk: int) -> Iterator[Frames]:
        self._stop()  # an earlier sampling may still be open
        self._generation += 1
        generation = self._generation
        self.report = _EMPTY_REPORT
        pixels: list[np.ndarray] = []
        times: list[float] = []
        self._worker.send(command)
        self._worker.is_streaming = True
        try:
            while True:
                if generation != self._generation:
                    raise ValueError(
                        f"{self._path.name}: the reader was closed or sampled again during "
                        f"iteration"
                    )
                kind, value = self._next()
                if kind == "end":
                    break
                if kind != "frame":
                    raise self._protocol_error()
                frame = self._request(partial(self._worker.read_frame, value))
                if pixels and pixels[0].shape != frame.shape:
                    yield self._frames(pixels, times)
                    pixels, times = [], []
                pixels.append(frame)
                times.append(float(value[3]))
                del frame  # frames are large: hold no more than one chunk
                if len(pixels) == chunk:
                    frames = self._frames(pixels, times)
                    pixels, times = [], []
                    yield frames
                    del frames
        finally:
            if generation == self._generation:
                self._stop()
        if pixels:
            yield self._frames(pixels, times)

    def _stop(self) -> None:
        """Make the worker wait for a command again."""
        if not self._worker.is_usable or not self._worker.is_streaming:
            return
        self._worker.release_frames()
        self._worker.send_bytes(b"s")
        while True:
            kind, value = self._next(stopping=True)
            if kind == "stopped":
                self._worker.is_streaming = False
                with suppress(TypeError, ValueError):
                    self.report = DecodeReport(
                        *(t(v) for t, v in zip(_REPORT_TYPES, value, strict=True))
                    )
                return

    def _frames(self, pixels: list[np.ndarray], times: list[float]) -> Frames:
        try:
            return Frames(
                pixels[0][None] if len(pixels) == 1 else np.stack(pixels), np.array(times)
            )
        except ValueError as error:
            raise self._protocol_error() from error

    def _receive(self, kind: str) -> Any:
        message_kind, value = self._next()
        if message_kind != kind:
            raise self._protocol_error()
        return value

    def _next(self, stopping: bool = False) -> tuple[str, Any]:
        kind, value = self._request(self._worker.receive)
        if kind == "error" and not stopping:
            try:
                message, reason = (str(v)[:2000] for v in value)
            except (TypeError, ValueError):
                raise self._protocol_error() from None
            raise DecodeError(f"{self._path.name}: {message}", reason)
        return kind, value

    def _request(self, receive: Callable[[], Any]) -> Any:
        """Return the worker's answer; if there is none, retire the worker and raise DecodeError."""
        try:
            return receive()
        except WorkerDiedError as error:
            self._worker.is_usable = False
            raise DecodeError(f"{self._path.name}: {error}", error.reason) from None
        except (ResourceError, EnvironmentUnfitError):
            self._worker.is_usable = False
            raise

    def _protocol_error(self) -> DecodeError:
        self._worker.is_usable = False
        return DecodeError(f"{self._path.name}: {INVALID_MESSAGE}", "crashed")
