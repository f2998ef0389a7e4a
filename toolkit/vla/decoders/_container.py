"""Video files of the supported containers: opening, stream selection, declared durations."""

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
# Titles need not be UTF-8. PyAV 19 always decodes them leniently and has no argument for it.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"}
    if hasattr(av.container.InputContainer, "metadata_errors")
    else {}
)


class Source:
    """The video stream of a file, and a decoder for it that can be restarted.

    Raises:
        DecodeError: see `Decoder.open` in `pyav.py`.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path, self._max_pixels = path, max_pixels
        self._is_started = False
        self.container = open_container(path)
        try:
            stream = choose_stream(self.container)
            if stream is None:
                raise DecodeError(
                    f"{path.name}: no video stream (audio, or a cover picture only)",
                    "no-video-stream",
                )
            self.stream = stream
            self._number = self.stream.index
            context = self.stream.codec_context
            if context is None:
                raise DecodeError(f"{path.name}: no decoder for its video codec", "undecodable")
            if context.width * context.height > max_pixels:
                raise DecodeError(
                    f"{path.name}: a picture of {context.width}x{context.height} pixels exceeds "
                    f"the limit of "
                    f"{max_pixels} pixels",
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
        """Rewind to the beginning of the file with a fresh decoder, and return its packets."""
        if self._is_started:
            self.container.close()
            self.container = open_container(self.path)
            self.stream = next(s for s in self.container.streams.video if s.index == self._number)
            self._prepare()
        self._is_started = True
        return Packets(self.container, self.stream)

    def read_index(self, tick: Callable[[], None]) -> tuple[PacketIndex | None, Packets]:
        """Return the packet index, or None, and the packets that it was read from.

        A separate handle is used, so the position of `container` does not change.

        Args:
            tick: called for every packet.
        """
        with open_container(self.path) as container:
            stream = next(s for s in container.streams.video if s.index == self._number)
            _discard_others(container, stream)
            packets = Packets(container, stream)
            return read_index(container, packets, stream, self.zero, tick), packets

    def is_cut(self) -> bool | None:
        """Return whether the file ends within an element of its container; None if unknown."""
        return is_cut(self.path, self.container.format.name)

    def bytes_read(self, ranges: list[tuple[int, int]], tick: Callable[[], None]) -> list[int]:
        """Return the bytes of each range of the file that packets of any stream occupy."""
        num_bytes = [0] * len(ranges)
        with open_container(self.path) as container, suppress(av.FFmpegError, EOFError, IndexError):
            for packet in container.demux():
                tick()
                if packet.pos is not None:
                    for i, (start, stop) in enumerate(ranges):
                        num_bytes[i] += max(
                            0, min(packet.pos + packet.size, stop) - max(packet.pos, start)
                        )
        return num_bytes

    def _prepare(self) -> None:
        context = self.stream.codec_context
        # The size may also change within the stream: libav checks it there.
        context.options = {"max_pixels": str(self._max_pixels)}
        # One decoder per core is faster than several threads in one decoder, and is deterministic.
        context.thread_count = 1
        _discard_others(self.container, self.stream)


def open_container(path: Path) -> av.container.InputContainer:
    """Open the file at `path` for reading.

    Raises:
        DecodeError: with the reason, see `Decoder.open` in `pyav.py`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable_reason(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(f"{path.name}: not a regular file", "not-a-file")
    if status.st_size == 0:
        raise DecodeError(f"{path.name}: the file is empty", "empty-file")
    try:
        # libav takes a bare name such as `concat:a|b` or `http:x.mp4` for a URL; `file:` with a
        # full path is never one.
        return av.open(
            "file:" + os.path.abspath(path),  # noqa: PTH100 - keep symbolic links as they are
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
            **_METADATA,
        )
    except PermissionError as error:
        raise DecodeError(f"{path.name}: permission denied", "permission") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        if is_of_system(error):
            raise unreadable_reason(path, error) from error
        raise DecodeError(
            f"{path.name}: not a readable video ({libav_message(error)})", "not-a-video"
        ) from error


def libav_message(error: BaseException) -> str:
    """Return libav's message for `error`, without its number and without the path."""
    return getattr(error, "strerror", None) or str(error).split(":")[0] or type(error).__name__


def choose_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """Return the video stream that players show; None if the file has none.

    Moving pictures precede still ones, main streams precede those for the impaired, the default
    stream precedes others, and larger pictures precede smaller ones. Cover and preview pictures,
    and streams that only complete another, never qualify.
    """
    kinds = av.stream.Disposition
    not_shown = int(
        kinds.attached_pic | kinds.timed_thumbnails | kinds.dependent | kinds.still_image
    )
    secondary = int(kinds.hearing_impaired | kinds.visual_impaired | kinds.comment)

    def rank(stream: av.VideoStream) -> tuple[bool, bool, bool, int]:
        flags, context = int(stream.disposition), stream.codec_context
        size = context.width * context.height if context is not None else 0
        is_still = stream.frames == 1 or (context is not None and context.name in _PICTURES)
        return not is_still, not flags & secondary, bool(flags & int(kinds.default)), size

    streams = [s for s in container.streams.video if not int(s.disposition) & not_shown]
    return max(streams, key=rank, default=None)


_PICTURES = frozenset(["mjpeg", "png", "bmp", "tiff", "webp", "gif", "jpegls", "jpeg2000"])


def _discard_others(container: av.container.InputContainer, stream: av.VideoStream) -> None:
    """Let libav read only `stream`: damage in another stream must not end it."""
    for other in container.streams:
        other.discard = (
            av.stream.Discard.default if other.index == stream.index else av.stream.Discard.all
        )


def start_of(container: av.container.InputContainer) -> Fraction:
    """Return the container's start in seconds; 0 if it declares none.

    It is the earliest time of any audio or video stream. Players count from it.
    """
    if container.start_time is None:
        return Fraction(0)
    start = Fraction(container.start_time, 1_000_000)
    # It is rounded to microseconds; the stream that it was taken from stores it exactly.
    exact = [
        s.start_time * Fraction(s.time_base)
        for s in container.streams
        if s.start_time is not None and s.time_base
    ]
    return min(
        (e for e in exact if abs(e - start) < Fraction(1, 500_000)),
        key=lambda e: abs(e - start),
        default=start,
    )


def declared_ends(
    container: av.container.InputContainer, stream: av.VideoStream, zero: Fraction
) -> list[float]:
    """Return the declared ends of the video, in seconds after `zero`.

    The sources are the stream, or its tag, and the container. Values that are 0 or less are left
    out.
    """
    base = Fraction(stream.time_base or 0)
    start = (stream.start_time or 0) * base - zero if stream.start_time is not None else Fraction(0)
    ends: list[Fraction] = []
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        # libav shortens the other durations to the size of the file.
        return [float(stream.frames / Fraction(stream.average_rate) + start)]
    if stream.duration and base and stream.duration > 0:
        ends.append(stream.duration * base + start)
    fields = stream.metadata.get("DURATION", "").split(":")  # Matroska: when the track ends
    if len(fields) == 3 and not ends:
        with suppress(ValueError, OverflowError):
            ends.append(
                Fraction(int(fields[0]) * 3600 + int(fields[1]) * 60)
                + Fraction(fields[2][:12])
                - zero
            )
    if container.duration:
        ends.append(Fraction(container.duration, 1_000_000))
    return [float(end) for end in ends if end > 0]
