"""Files of known containers, opened by name alone, and what they say of themselves."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vla.decoders._index import PacketIndex, read_index
from vla.errors import DecodeError

# Playlists, concat scripts and network formats are not videos: they make libav open other files and addresses.
_FORMATS = (
    "mov,matroska,webm,avi,mpegts,flv,asf,mpeg,mpegvideo,ogg,gif,h264,hevc,ivf,obu,m4v,mxf,rm,dv,nut,y4m,yuv4mpegpipe"
)

# Titles need not be UTF-8. Before version 19 PyAV had to be told; since then it takes no such argument, and reads them all.
_LENIENT: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


class Source:
    """The video stream of a file, and a decoder for it that can begin again.

    Raises:
        DecodeError: see `Decoder.open` in `pyav.py`.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._path, self._max_pixels = path, max_pixels
        self._used = False
        self.container = open_container(path)
        try:
            streams = [s for s in self.container.streams.video if not is_cover(s)]
            if not streams:
                raise DecodeError(f"{path.name}: no video stream (audio, or a cover picture only)", "no-video-stream")
            self.stream = streams[0]
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
            self._prepare()
        except BaseException:
            self.container.close()
            raise

    def begin(self) -> None:
        """Stand at the beginning of the file with a decoder that has seen nothing."""
        if self._used:
            self.container.close()
            self.container = open_container(self._path)
            self.stream = next(s for s in self.container.streams.video if s.index == self._number)
            self._prepare()
        self._used = True

    def read_index(self, tick: Callable[[], None]) -> PacketIndex | None:
        """The packets' index, by a handle of its own: `container` stays where it is; `tick` is called for every packet."""
        with open_container(self._path) as container:
            streams = [s for s in container.streams.video if s.index == self._number]
            return read_index(container, streams[0], tick) if streams else None

    def start_of(self, origin: Fraction) -> float:
        """What the declared duration counts before the first frame, which comes up at `origin`.

        Where the start is not stated, what was declared is where the video ends, counted from 0.
        """
        return float(origin) if self.stream.start_time is None else 0.0

    def _prepare(self) -> None:
        context = self.stream.codec_context
        # The size may also change in mid-stream: libav checks it there.
        context.options = {"max_pixels": str(self._max_pixels)}
        # One decoder per core beats several threads in one decoder, and is deterministic.
        context.thread_count = 1


def open_container(path: Path) -> av.container.InputContainer:
    """The file at `path`, opened for reading; raises DecodeError with the reason, see `Decoder.open`."""
    try:
        status = path.stat()
    except OSError as error:
        reason = "permission" if isinstance(error, PermissionError) else "missing"
        raise DecodeError(f"{path.name}: {error.strerror}", reason) from error
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(f"{path.name}: not a regular file", "not-a-file")
    if status.st_size == 0:
        raise DecodeError(f"{path.name}: the file is empty", "empty-file")
    try:
        # A bare name such as `concat:a|b` or `http:x.mp4` is an address to libav; `file:` and a full path never is.
        return av.open(
            "file:" + os.path.abspath(path),  # noqa: PTH100 - links in the name are the user's
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
            **_LENIENT,
        )
    except PermissionError as error:
        raise DecodeError(f"{path.name}: permission denied", "permission") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(f"{path.name}: not a video that can be read ({said(error)})", "not-a-video") from error


def said(error: BaseException) -> str:
    """What libav says, without its number and without the path, in one phrase."""
    return getattr(error, "strerror", None) or str(error).split(":")[0] or type(error).__name__


def is_cover(stream: av.VideoStream) -> bool:
    """True for a picture that goes with music."""
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def declared_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The video stream's own length where the file states it, else the container's; 0.0 where neither does."""
    if stream.duration and stream.time_base and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska keeps each track's length in a tag
    parts = tag.split(":")
    if len(parts) == 3:
        try:
            # A tag holds the time of the track's end, which starts where the stream does.
            start = float((stream.start_time or 0) * (stream.time_base or 0))
            return max(0.0, int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2]) - start)
        except ValueError:
            pass
    return max(0.0, container.duration / 1_000_000) if container.duration else 0.0
