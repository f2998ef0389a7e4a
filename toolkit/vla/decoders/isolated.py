"""Any other decoder, in a process of its own: a video that crashes it, hangs it or fills its memory costs that video.

Decoders are large and old, and videos come from anywhere. The child process has limits on memory and files, talks in
lines of JSON and puts pictures into shared memory; nothing it says is trusted beyond its numbers being in range.

What goes wrong in a child is not always the video's fault: `vla.causes` tells the reasons apart.
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

from vla.decoders._worker import DecoderWorker, WorkerDiedError
from vla.decoders.base import DecodeReport
from vla.errors import DecodeError, EnvironmentUnfitError, ResourceError
from vla.hints import Hint
from vla.sampling import Sampling
from vla.video import Frames, Video

_NOTHING = DecodeReport(0.0, 0.0, 0, "", False)
_REPORT = (float, float, int, str, bool, int, int, float, bool, bool)  # types of its fields


class Decoder:
    """Decoding in child processes, one for each video that is open at the same time; they are used again.

    Args:
        inner: name of the decoder that works inside.
        max_pixels: passed on to it.
        memory: bytes of address space a child may have.
        patience: seconds without any sign of life after which a child that has started counts as hung. Time in which the
            machine sleeps, or this process is stopped, does not count.
        computing: seconds of processor time without any sign of life after which a child counts as computing for ever.

    Raises:
        EnvironmentUnfitError: this system cannot hand a file over to a child (Windows).
    """

    def __init__(
        self,
        inner: str = "pyav",
        max_pixels: int = 8192 * 8192,
        memory: int = 6 << 30,
        patience: float = 60.0,
        computing: float = 20.0,
    ) -> None:
        if os.name != "posix":
            raise EnvironmentUnfitError(
                "decoding in processes of their own needs a POSIX system", hint=Hint("decode_in_process")
            )
        self._settings = {"inner": inner, "max_pixels": max_pixels, "memory": memory, "computing": computing}
        self._patience = patience
        self._idle: list[DecoderWorker] = []
        self._lock = threading.Lock()

    def open(self, path: Path) -> IsolatedReader:
        """A reader of the video at `path`.

        Raises:
            DecodeError: what the inner decoder raises; and `crashed`, `endless`, `memory`, `hung`, `killed` or `resources`
                from here or while reading.
            ResourceError: the system gives no process, or too little for one.
            EnvironmentUnfitError: the child does not start.
        """
        with self._lock:
            child = self._idle.pop() if self._idle else None
        child = child or DecoderWorker(self._settings, self._patience)
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

    def _take_back(self, child: DecoderWorker) -> None:
        # One that is still sending would send the next video this one's frames.
        if child.is_well and not child.is_streaming:
            with self._lock:
                self._idle.append(child)
        else:
            child.end()


class IsolatedReader:
    """One open file in a child process; see `vla.decoders.base.Reader`."""

    def __init__(self, owner: Decoder, child: DecoderWorker, path: Path) -> None:
        self._owner, self._child, self._path = owner, child, path
        self._turn = 0
        child.send({"open": os.fsencode(os.path.abspath(path)).hex()})  # noqa: PTH100 - links in the name are the user's
        record = self._receive("video")
        try:
            seconds, fps, width, height, codec = record
            self.video = Video(path, float(seconds), float(fps), int(width), int(height), str(codec)[:40])
        except (TypeError, ValueError, OverflowError) as error:
            raise self._nonsense() from error
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
        self._turn += 1
        self._owner._take_back(self._child)

    def _stream(self, command: dict[str, Any], chunk: int) -> Iterator[Frames]:
        self._stop()  # an earlier sampling may still be held
        self._turn += 1
        turn = self._turn
        self.report = _NOTHING
        pixels: list[np.ndarray] = []
        times: list[float] = []
        self._child.send(command)
        self._child.is_streaming = True
        try:
            while True:
                if turn != self._turn:
                    raise ValueError(f"{self._path.name} was closed or sampled anew while its frames were being read")
                kind, value = self._next()
                if kind == "end":
                    break
                if kind != "frame":
                    raise self._nonsense()
                picture = self._ask(partial(self._child.picture, value))
                if pixels and pixels[0].shape != picture.shape:
                    yield self._frames(pixels, times)
                    pixels, times = [], []
                pixels.append(picture)
                times.append(float(value[3]))
                del picture  # pictures are large: no more are held than were asked for
                if len(pixels) == chunk:
                    frames = self._frames(pixels, times)
                    pixels, times = [], []
                    yield frames
                    del frames
        finally:
            if turn == self._turn:
                self._stop()
        if pixels:
            yield self._frames(pixels, times)

    def _stop(self) -> None:
        """Bring the child back to where it waits for a command, whatever it was sending."""
        if not self._child.is_well or not self._child.is_streaming:
            return
        self._child.drop_pictures()
        self._child.tell(b"s")
        while True:
            kind, value = self._next(stopping=True)
            if kind == "stopped":
                self._child.is_streaming = False
                with suppress(TypeError, ValueError):
                    self.report = DecodeReport(*(t(v) for t, v in zip(_REPORT, value, strict=True)))
                return

    def _frames(self, pixels: list[np.ndarray], times: list[float]) -> Frames:
        try:
            return Frames(pixels[0][None] if len(pixels) == 1 else np.stack(pixels), np.array(times))
        except ValueError as error:
            raise self._nonsense() from error

    def _receive(self, kind: str) -> Any:
        found, value = self._next()
        if found != kind:
            raise self._nonsense()
        return value

    def _next(self, stopping: bool = False) -> tuple[str, Any]:
        kind, value = self._ask(self._child.receive)
        if kind == "error" and not stopping:
            try:
                message, reason = (str(v)[:2000] for v in value)
            except (TypeError, ValueError):
                raise self._nonsense() from None
            raise DecodeError(f"{self._path.name}: {message}", reason)
        return kind, value

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The child's answer; if there is none, a DecodeError, and the child is not used again."""
        try:
            return question()
        except WorkerDiedError as error:
            self._child.is_well = False
            raise DecodeError(f"{self._path.name}: {error}", error.reason) from None
        except (ResourceError, EnvironmentUnfitError):
            self._child.is_well = False
            raise

    def _nonsense(self) -> DecodeError:
        self._child.is_well = False
        return DecodeError(f"{self._path.name}: the decoder's process answered nonsense", "crashed")
