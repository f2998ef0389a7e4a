"""Videos and decoded frames, and the file formats that are accepted."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vla.errors import ShapeError

if TYPE_CHECKING:
    import numpy as np

FORMATS: dict[str, str] = {
    "mov": ".mp4 .m4v .mov .qt .3gp .3gpp .3g2 .3gp2 .f4v .mj2 .mp4v .cmfv .ismv .insv .lrv .lrf .360",
    "matroska": ".mkv .mk3d",
    "webm": ".webm",
    "avi": ".avi .divx .xvid .amv",
    "mpegts": ".ts .mts .m2ts .m2t .tp .trp .tod",
    "mpeg": ".mpg .mpeg .mpe .vob .vro .evo .m2p .mod",
    "mpegvideo": ".m1v .m2v .mpv .mp2v",
    "asf": ".asf .wmv .wm .dvr-ms",
    "flv": ".flv",
    "ogg": ".ogv .ogm .ogx",
    "rm": ".rm .rmvb",
    "mxf": ".mxf",
    "gxf": ".gxf",
    "dv": ".dv .dif",
    "nut": ".nut",
    "nsv": ".nsv",
    "wtv": ".wtv",
    "dhav": ".dav",
    "gif": ".gif",
    "apng": ".apng",
    "mjpeg": ".mjpeg .mjpg",
    "h261": ".h261",
    "h263": ".h263",
    "m4v": "",
    "h264": ".h264 .264 .avc",
    "hevc": ".hevc .h265 .265",
    "vvc": ".vvc .h266 .266",
    "vc1": ".vc1",
    "vc1test": ".rcv",
    "dirac": "",
    "cavsvideo": ".cavs",
    "dnxhd": ".dnxhd .dnxhr",
    "ivf": ".ivf",
    "obu": ".obu",
    "yuv4mpegpipe": ".y4m",
}
"""FFmpeg's names of the accepted containers, each with its file suffixes. A suffix only selects files in a
folder; the content determines the container. Playlists, scripts and network formats are left out, since
they make FFmpeg open other files and addresses."""

SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes.split())
# Also used by TypeScript and translations; Go modules, kernel and GRUB modules, tracker music.
_SHARED_SUFFIXES = frozenset([".ts", ".mts", ".mod"])
_SNIFF_BYTES = 4096
# Bytes of a transport packet: plain, with a time code (M2TS), with error correction.
PACKETS = (188, 192, 204)
_TEXT = frozenset([*range(0x20, 0x7F), *range(0x80, 0x100), 0x09, 0x0A, 0x0C, 0x0D, 0x1B])


def looks_like_video(path: Path) -> bool:
    """Return False for a file with a video suffix but other content, such as a TypeScript file `.ts`.

    Only regular files with suffixes that other kinds of file use are read, at most 4 kB. True for every
    other path, even if it cannot be read: opening it will give the reason.
    """
    suffix = path.suffix.lower()
    if suffix not in _SHARED_SUFFIXES:
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return True
        with path.open("rb") as file:
            head = file.read(_SNIFF_BYTES)
    except OSError:
        return True
    # A camera's `.mod` begins with a pack header; of the others, binary content may be a damaged recording.
    return _is_mpeg(head) or (suffix != ".mod" and not _is_text(head))


def _is_mpeg(head: bytes) -> bool:
    """Return whether the bytes begin a program stream or contain packets of a transport stream."""
    if head[:4] in (b"\0\0\1\xba", b"\0\0\1\xb3"):
        return True
    return any(
        len(marks := head[start::size]) >= 3 and not marks.strip(b"\x47")
        for size in PACKETS
        for start in range(size)
    )


def _is_text(head: bytes) -> bool:
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") or _TEXT.issuperset(head)


@dataclass(frozen=True)
class Video:
    """A video file with the metadata of its container and first frames.

    Attributes:
        path: path of the file.
        duration_seconds: declared duration from the container's start to the end of the last frame; 0.0
            if undeclared (then known only after decoding).
        fps: declared average frame rate; 0.0 if undeclared.
        width: width of the stored picture in pixels, before rotation and aspect correction.
        height: height of the stored picture in pixels, likewise.
        codec: short name of the codec.
    """

    path: Path
    duration_seconds: float
    fps: float
    width: int
    height: int
    codec: str

    def __post_init__(self) -> None:
        if self.duration_seconds < 0 or self.fps < 0 or self.width <= 0 or self.height <= 0:
            raise ShapeError(
                f"{self.path}: a video needs a positive size and no negative times, not "
                f"{self.width}x{self.height}, "
                f"{self.duration_seconds} s, {self.fps} frames/s"
            )


@dataclass(frozen=True)
class Frames:
    """Decoded pictures with their presentation times.

    Attributes:
        pixels: `(T, H, W, 3)` uint8, upright, square pixels, RGB.
        timestamps_seconds: `(T,)` float64, non-decreasing; 0 is the container's start, its earliest picture or sound.
    """

    pixels: np.ndarray
    timestamps_seconds: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[-1] != 3 or self.pixels.dtype != "uint8":
            raise ShapeError(
                f"pixels must be (T, H, W, 3) uint8, not {self.pixels.shape} {self.pixels.dtype}"
            )
        if self.timestamps_seconds.shape != self.pixels.shape[:1]:
            raise ShapeError(
                f"{len(self.pixels)} frames but timestamps of shape {self.timestamps_seconds.shape}"
            )
        if (self.timestamps_seconds[1:] < self.timestamps_seconds[:-1]).any():
            raise ShapeError("timestamps must not decrease")

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        t, h, w, _ = self.pixels.shape
        span = (
            f", {self.timestamps_seconds[0]:.2f}-{self.timestamps_seconds[-1]:.2f} s" if t else ""
        )
        return f"Frames({t} x {h}x{w}{span})"
