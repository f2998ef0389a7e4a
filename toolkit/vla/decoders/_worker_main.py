"""The other side of `isolated.py`: a process that decodes what it is told to, within limits."""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

_ROOM = 32 << 20
"""Bytes of pictures that may wait to be fetched; one picture always may."""


def main() -> None:
    """Serve the commands on standard input until it ends; `argv` holds the settings and the shared file."""
    settings, ring = json.loads(sys.argv[1]), int(sys.argv[2])
    from vla.decoders import registry
    from vla.errors import DecodeError
    from vla.sampling import Sampling

    # Before the limits: an import under a limit fails in odd ways.
    decoder = registry.build(settings["inner"], {"max_pixels": settings["max_pixels"]})
    _limit(settings["memory"], 3 * settings["max_pixels"])
    # Messages have their own handle: whatever a library prints must not look like one.
    messages, commands = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    line = _Line(messages, commands, settings["computing"])
    line.say("alive", None)  # from now on, silence counts
    room = _Room(ring)
    reader: Any = None
    while True:
        command, value = next(iter(line.command().items()))
        if command == "open":
            if reader is not None:
                reader.__exit__(None, None, None)
            reader = _open(decoder, Path(os.fsdecode(bytes.fromhex(value))), line)
            continue
        try:
            if command == "sample":
                _stream(reader.sample(Sampling.parse(value), 1), line, room)
            else:
                _stream([reader.frames_at(np.array(value))], line, room)
            line.say("end", None)
            _wait_for_stop(line)
        except _ShortageError as error:
            line.say("shortage", error.number)
            _wait_for_stop(line)
        except DecodeError as error:
            line.say("error", _plain(error, reader.video.path))
            _wait_for_stop(line)
        except _Stop:
            pass
        room.clear()
        line.say("stopped", astuple(reader.report))


def _open(decoder: Any, path: Path, line: _Line) -> Any:
    """A reader of the video at `path`, told of; None if it cannot be opened, and the reason told."""
    from vla.errors import DecodeError

    try:
        reader = decoder.open(path)
    except DecodeError as error:
        line.say("error", _plain(error, path))
        return None
    reader.tick = line.alive
    video = reader.video
    line.say("video", [video.duration_seconds, video.fps, video.width, video.height, video.codec])
    return reader


def _wait_for_stop(line: _Line) -> None:
    while line.byte() != b"s":  # pictures that were fetched meanwhile
        pass


def _plain(error: Any, path: Path) -> list[str]:
    return [str(error).removeprefix(f"{path.name}: "), error.reason]


class _Stop(Exception):
    """Whoever asked for frames has seen enough."""


class _ShortageError(Exception):
    """The system has no room for pictures; `number` is its error."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class _Line:
    """Messages out, commands in. `diligence`: seconds of computing without a word after which the system ends us.

    Time in which the machine sleeps or others compute does not count, so nobody takes a pause for an endless loop.
    """

    def __init__(self, messages: int, commands: int, diligence: float) -> None:
        self._messages, self._commands, self._diligence = messages, commands, diligence
        self._spoke = time.monotonic()

    def say(self, kind: str, value: Any) -> None:
        content = memoryview(json.dumps([kind, value]).encode("ascii") + b"\n")
        while content:
            content = content[os.write(self._messages, content) :]
        self._spoke = time.monotonic()
        with suppress(AttributeError, OSError):  # a system without such timers
            signal.setitimer(signal.ITIMER_PROF, self._diligence)

    def alive(self) -> None:
        """A sign of life, at most one a second."""
        if time.monotonic() - self._spoke > 1:
            self.say("alive", None)

    def byte(self) -> bytes:
        found = os.read(self._commands, 1)
        if not found:
            os._exit(0)  # whom we work for is gone
        return found

    def command(self) -> dict[str, Any]:
        content = b""
        while not content.endswith(b"\n"):
            content += self.byte()
        found: dict[str, Any] = json.loads(content)
        return found


class _Room:
    """The shared file as a ring of equal places for pictures."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._shared = mmap.mmap(-1, 1)
        self.place, self.places = 0, 0

    def fit(self, size: int) -> None:
        """Make places of `size` bytes; none may be in use."""
        self.places = max(1, min(8, _ROOM // size))
        self.place = size
        total = self.place * self.places
        try:
            if os.fstat(self._file).st_size < total:
                os.ftruncate(self._file, total)
                with suppress(
                    AttributeError
                ):  # where it exists it fails cleanly; writing to a full file system does not
                    os.posix_fallocate(self._file, 0, total)
            self._shared = mmap.mmap(self._file, os.fstat(self._file).st_size)
        except OSError as error:
            raise _ShortageError(error.errno or 0) from error

    def clear(self) -> None:
        """Give back what large pictures took; none may be in use, on either side."""
        if self.place * self.places > _ROOM:
            self._shared = mmap.mmap(-1, 1)
            self.place = self.places = 0
            with suppress(OSError):
                os.ftruncate(self._file, 0)

    def put(self, number: int, pixels: np.ndarray) -> int:
        """Where `pixels` were put, in bytes from the beginning."""
        offset = number % self.places * self.place
        np.frombuffer(self._shared, np.uint8, pixels.size, offset)[:] = pixels.reshape(-1)
        return offset


def _stream(chunks: Iterable[Any], line: _Line, room: _Room) -> None:
    """Send the pictures of `chunks`, no more ahead than there is room for."""
    sent = free = 0

    def wait() -> None:
        nonlocal free
        if line.byte() == b"s":
            raise _Stop
        free += 1

    for frames in chunks:
        for pixels, seconds in zip(frames.pixels, frames.timestamps_seconds, strict=True):
            if pixels.size > room.place:
                while free < sent:
                    wait()
                room.fit(pixels.size)
            while sent - free >= room.places:
                wait()
            height, width, _ = pixels.shape
            line.say("frame", [room.put(sent, pixels), height, width, float(seconds)])
            sent += 1


def _limit(memory: int, picture: int) -> None:
    """No more memory than this, no core files, no new files larger than the pictures that are shared, few open ones.

    There is no limit on computing in all, since a long video takes long; see `_Line` for computing without a word.
    """
    import resource

    limits = {"RLIMIT_AS": memory, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 64, "RLIMIT_FSIZE": max(_ROOM, 2 * picture)}
    for name, value in limits.items():
        with suppress(AttributeError, ValueError, OSError):  # a system without it, or with a stricter limit
            resource.setrlimit(getattr(resource, name), (value, value))
