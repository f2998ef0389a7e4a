"""Files of known containers, opened by name alone, and what they say of themselves."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.stream

from vla.causes import is_of_system, unreadable_reason
from vla.decoders._index import PacketIndex, read_index
from vla.decoders._packets import Packets
from vla.decoders._structure import is_cut
from vla.errors import DecodeError
from vla.video import FORMATS

_FORMATS = ",".join(FORMATS)
# Titles need not be UTF-8. PyAV 19 always takes them as they are and has no argument for it.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"} if hasattr(av.container.InputContainer, "metadata_errors") else {}
)


class Source:
    """The video stream of a file, and a decoder for it that can begin again.

    Raises:
        DecodeError: see `Decoder.open` in `pyav.py`.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path, self._max_pixels = path, max_pixels
        self._used = False
        self.container = open_container(path)
        try:
            stream = choose_stream(self.container)
            if stream is None:
                raise DecodeError(f"{path.name}: no video stream (audio, or a cover picture only)", "no-video-stream")
            self.stream = stream
            self._number = self.stream.index
            context = self.stream.codec_context
            if context is None:
                raise DecodeError(f"{path.name}: no decoder for its video codec", "undecodable")
            if context.width * context.height > max_pixels:
                raise DecodeError(
                    f"{path.name}: {context.width}x{context.height} pixels; more than {max_pixels} are refused",
                    "too-large",
                )
            if context.width <= 0 or context.height <= 0:
                raise DecodeError(f"{path.name}: declares no picture size", "undecodable")
            self.zero = start_of(self.container)
            self._prepare()
        except BaseException:
            self.container.close()
            raise

    def begin(self) -> Packets:
        """Stand at the beginning of the file with a decoder that has seen nothing; returns its packets."""
        if self._used:
            self.container.close()
            self.container = open_container(self.path)
            self.stream = next(s for s in self.container.streams.video if s.index == self._number)
            self._prepare()
        self._used = True
        return Packets(self.container, self.stream)

    def read_index(self, tick: Callable[[], None]) -> tuple[PacketIndex | None, Packets]:
        """The packets' index, by a handle of its own: `container` stays where it is; `tick` is called for every packet."""
        with open_container(self.path) as container:
            stream = next(s for s in container.streams.video if s.index == self._number)
            _discard_others(container, stream)
            packets = Packets(container, stream)
            return read_index(container, packets, stream, self.zero, tick), packets

    def is_cut(self) -> bool | None:
        """True if the file ends within an element of its container; None if that cannot be told."""
        return is_cut(self.path, self.container.format.name)

    def bytes_read(self, stretches: list[tuple[int, int]], tick: Callable[[], None]) -> list[int]:
        """How many bytes of each stretch of the file the packets of all its streams hold."""
        held = [0] * len(stretches)
        with open_container(self.path) as container, suppress(av.FFmpegError, EOFError, IndexError):
            for packet in container.demux():
                tick()
                if packet.pos is not None:
                    for i, (start, stop) in enumerate(stretches):
                        held[i] += max(0, min(packet.pos + packet.size, stop) - max(packet.pos, start))
        return held

    def _prepare(self) -> None:
        context = self.stream.codec_context
        # The size may also change in mid-stream: libav checks it there.
        context.options = {"max_pixels": str(self._max_pixels)}
        # One decoder per core beats several threads in one decoder, and is deterministic.
        context.thread_count = 1
        _discard_others(self.container, self.stream)


def open_container(path: Path) -> av.container.InputContainer:
    """The file at `path`, opened for reading; raises DecodeError with the reason, see `Decoder.open`."""
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable_reason(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(f"{path.name}: not a regular file", "not-a-file")
    if status.st_size == 0:
        raise DecodeError(f"{path.name}: the file is empty", "empty-file")
    try:
        # A bare name such as `concat:a|b` or `http:x.mp4` is an address to libav; `file:` and a full path never is.
        return av.open(
            "file:" + os.path.abspath(path),  # noqa: PTH100 - links in the name are the user's
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
            **_METADATA,
        )
    except PermissionError as error:
        raise DecodeError(f"{path.name}: permission denied", "permission") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        if is_of_system(error):
            raise unreadable_reason(path, error) from error
        raise DecodeError(
            f"{path.name}: not a video that can be read ({libav_message(error)})", "not-a-video"
        ) from error


def libav_message(error: BaseException) -> str:
    """What libav says, without its number and without the path, in one phrase."""
    return getattr(error, "strerror", None) or str(error).split(":")[0] or type(error).__name__


def choose_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The video that players show: moving rather than a still picture, what the file marks as default, largest, first.

    Cover and preview pictures, and streams that only complete another, are none.
    """
    kinds = av.stream.Disposition
    odd = int(kinds.attached_pic | kinds.timed_thumbnails | kinds.dependent | kinds.still_image)
    lesser = int(kinds.hearing_impaired | kinds.visual_impaired | kinds.comment)

    def rank(stream: av.VideoStream) -> tuple[bool, bool, bool, int]:
        flags, context = int(stream.disposition), stream.codec_context
        size = context.width * context.height if context is not None else 0
        is_still = stream.frames == 1 or (context is not None and context.name in _PICTURES)
        return not is_still, not flags & lesser, bool(flags & int(kinds.default)), size

    streams = [s for s in container.streams.video if not int(s.disposition) & odd]
    return max(streams, key=rank, default=None)


_PICTURES = frozenset(["mjpeg", "png", "bmp", "tiff", "webp", "gif", "jpegls", "jpeg2000"])


def _discard_others(container: av.container.InputContainer, stream: av.VideoStream) -> None:
    """Only `stream` is read: damage elsewhere must not end it."""
    for other in container.streams:
        other.discard = av.stream.Discard.default if other.index == stream.index else av.stream.Discard.all


def start_of(container: av.container.InputContainer) -> Fraction:
    """The container's start in seconds: its earliest sound or picture, from which players count; 0 where it is not stated."""
    if container.start_time is None:
        return Fraction(0)
    start = Fraction(container.start_time, 1_000_000)
    # It is rounded to microseconds; the stream that it was taken from has it exactly.
    exact = [
        s.start_time * Fraction(s.time_base) for s in container.streams if s.start_time is not None and s.time_base
    ]
    return min((e for e in exact if abs(e - start) < Fraction(1, 500_000)), key=lambda e: abs(e - start), default=start)


def declared_ends(container: av.container.InputContainer, stream: av.VideoStream, zero: Fraction) -> list[float]:
    """When the video ends, in seconds after `zero`, by each that states it: the stream or its tag, and the file."""
    base = Fraction(stream.time_base or 0)
    start = (stream.start_time or 0) * base - zero if stream.start_time is not None else Fraction(0)
    found: list[Fraction] = []
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return [
            float(stream.frames / Fraction(stream.average_rate) + start)
        ]  # libav shortens the rest to the file's size
    if stream.duration and base and stream.duration > 0:
        found.append(stream.duration * base + start)
    parts = stream.metadata.get("DURATION", "").split(":")  # Matroska: when the track ends
    if len(parts) == 3 and not found:
        with suppress(ValueError, OverflowError):
            found.append(Fraction(int(parts[0]) * 3600 + int(parts[1]) * 60) + Fraction(parts[2][:12]) - zero)
    if container.duration:
        found.append(Fraction(container.duration, 1_000_000))
    return [float(end) for end in found if end > 0]
