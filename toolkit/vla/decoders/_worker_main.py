"""Child side of `isolated.py`: a process that decodes on command, within resource limits."""

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

_RING_BYTES = 32 << 20
"""Bytes of frames that may wait to be fetched; a single frame may always wait."""


def main() -> None:
    """Serve the commands on standard input until it ends.

    `argv` holds the settings as JSON and the descriptor of the shared file.
    """
    settings, shared_file = json.loads(sys.argv[1]), int(sys.argv[2])
    from vla.decoders import registry
    from vla.errors import DecodeError
    from vla.sampling import Sampling

    # Import before the limits apply: an import under a memory limit fails in unclear ways.
    decoder = registry.build(settings["inner"], {"max_pixels": settings["max_pixels"]})
    _limit(settings["memory"], 3 * settings["max_pixels"])
    # Messages have a descriptor of their own: output of a library must not look like a message.
    messages, commands = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    channel = _Channel(messages, commands, settings["cpu_timeout"])
    channel.send("heartbeat", None)  # from now on, silence counts
    ring = _FrameRing(shared_file)
    reader: Any = None
    while True:
        command, value = next(iter(channel.receive_command().items()))
        if command == "open":
            if reader is not None:
                reader.__exit__(None, None, None)
            reader = _open(decoder, Path(os.fsdecode(bytes.fromhex(value))), channel)
            continue
        try:
            if command == "sample":
                _stream(reader.sample(Sampling.parse(value), 1), channel, ring)
            else:
                times, max_width = value
                _stream([reader.frames_at(np.array(times), max_width)], channel, ring)
            channel.send("end", None)
            _wait_for_stop(channel)
        except _ShortageError as error:
            channel.send("shortage", error.number)
            _wait_for_stop(channel)
        except DecodeError as error:
            channel.send("error", _plain(error, reader.video.path))
            _wait_for_stop(channel)
        except _StopRequest:
            pass
        ring.clear()
        channel.send("stopped", astuple(reader.report))


def _open(decoder: Any, path: Path, channel: _Channel) -> Any:
    """Open the video at `path` and report it; report the error and return None if that fails."""
    from vla.errors import DecodeError

    try:
        reader = decoder.open(path)
    except DecodeError as error:
        channel.send("error", _plain(error, path))
        return None
    reader.tick = channel.heartbeat
    video = reader.video
    channel.send(
        "video", [video.duration_seconds, video.fps, video.width, video.height, video.codec]
    )
    return reader


def _wait_for_stop(channel: _Channel) -> None:
    while channel.receive_byte() != b"s":  # acknowledgements of frames fetched meanwhile
        pass


def _plain(error: Any, path: Path) -> list[str]:
    return [str(error).removeprefix(f"{path.name}: "), error.reason]


class _StopRequest(Exception):
    """The parent wants no more frames."""


class _ShortageError(Exception):
    """No memory could be allocated for frames; `number` is the system's error number."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class _Channel:
    """Messages to the parent, commands from it.

    The system ends this process after `cpu_timeout` seconds of processor time without a message.
    Time while the machine is suspended or other processes run does not count, so a pause is not
    taken for an endless loop.
    """

    def __init__(self, messages: int, commands: int, cpu_timeout: float) -> None:
        self._messages, self._commands, self._cpu_timeout = messages, commands, cpu_timeout
        self._last_message = time.monotonic()

    def send(self, kind: str, value: Any) -> None:
        content = memoryview(json.dumps([kind, value]).encode("ascii") + b"\n")
        while content:
            content = content[os.write(self._messages, content) :]
        self._last_message = time.monotonic()
        with suppress(AttributeError, OSError):  # a system without such timers
            signal.setitimer(signal.ITIMER_PROF, self._cpu_timeout)

    def heartbeat(self) -> None:
        """Report progress, at most once per second."""
        if time.monotonic() - self._last_message > 1:
            self.send("heartbeat", None)

    def receive_byte(self) -> bytes:
        byte = os.read(self._commands, 1)
        if not byte:
            os._exit(0)  # the parent ended
        return byte

    def receive_command(self) -> dict[str, Any]:
        content = b""
        while not content.endswith(b"\n"):
            content += self.receive_byte()
        command: dict[str, Any] = json.loads(content)
        return command


class _FrameRing:
    """Ring buffer of equal slots for frames in the shared file."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._mapping = mmap.mmap(-1, 1)
        self.slot_size, self.num_slots = 0, 0

    def resize(self, size: int) -> None:
        """Make slots of `size` bytes; none may be in use."""
        self.num_slots = max(1, min(8, _RING_BYTES // size))
        self.slot_size = size
        total = self.slot_size * self.num_slots
        try:
            if os.fstat(self._file).st_size < total:
                os.ftruncate(self._file, total)
                # Fail cleanly where the call exists; writing to a full file system does not.
                with suppress(AttributeError):
                    os.posix_fallocate(self._file, 0, total)
            self._mapping = mmap.mmap(self._file, os.fstat(self._file).st_size)
        except OSError as error:
            raise _ShortageError(error.errno or 0) from error

    def clear(self) -> None:
        """Release the memory of large frames; no slot may be in use on either side."""
        if self.slot_size * self.num_slots > _RING_BYTES:
            self._mapping = mmap.mmap(-1, 1)
            self.slot_size = self.num_slots = 0
            with suppress(OSError):
                os.ftruncate(self._file, 0)

    def write(self, number: int, pixels: np.ndarray) -> int:
        """Write frame `number` to its slot, and return the slot's offset in bytes."""
        offset = number % self.num_slots * self.slot_size
        np.frombuffer(self._mapping, np.uint8, pixels.size, offset)[:] = pixels.reshape(-1)
        return offset


def _stream(chunks: Iterable[Any], channel: _Channel, ring: _FrameRing) -> None:
    """Send the frames of `chunks`, no further ahead than there are free slots."""
    num_frames = num_acks = 0

    def wait() -> None:
        nonlocal num_acks
        if channel.receive_byte() == b"s":
            raise _StopRequest
        num_acks += 1

    for frames in chunks:
        for pixels, seconds in zip(frames.pixels, frames.timestamps_seconds, strict=True):
            if pixels.size > ring.slot_size:
                while num_acks < num_frames:
                    wait()
                ring.resize(pixels.size)
            while num_frames - num_acks >= ring.num_slots:
                wait()
            height, width, _ = pixels.shape
            channel.send("frame", [ring.write(num_frames, pixels), height, width, float(seconds)])
            num_frames += 1


def _limit(memory: int, picture_bytes: int) -> None:
    """Limit memory, core files, the size of new files to that of shared frames, and open files.

    Processor time in total is not limited, since a long video takes long; `_Channel` limits it
    between messages.
    """
    import resource

    limits = {
        "RLIMIT_AS": memory,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_FSIZE": max(_RING_BYTES, 2 * picture_bytes),
    }
    for name, value in limits.items():
        with suppress(
            AttributeError, ValueError, OSError
        ):  # a system without it, or with a stricter limit
            resource.setrlimit(getattr(resource, name), (value, value))
