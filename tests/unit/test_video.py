"""Suffixes of videos agree with the containers that are read, and suffixes that others use too are looked into."""

import os
from collections import Counter

import av
import numpy as np
import pytest

from vla.decoders.pyav import Decoder
from vla.video import FORMATS, SUFFIXES, looks_like_video

WRITERS = {
    ".mp4": ("mp4", "libx264"), ".m4v": ("mp4", "mpeg4"), ".mov": ("mov", "libx264"), ".qt": ("mov", "mjpeg"),
    ".3gp": ("3gp", "mpeg4"), ".3g2": ("3g2", "mpeg4"), ".f4v": ("f4v", "libx264"), ".insv": ("mp4", "libx264"),
    ".lrv": ("mp4", "libx264"), ".360": ("mov", "libx264"), ".mkv": ("matroska", "libx264"), ".webm": ("webm", "libvpx"),
    ".avi": ("avi", "mpeg4"), ".divx": ("avi", "mpeg4"), ".ts": ("mpegts", "libx264"), ".mts": ("mpegts", "libx264"),
    ".m2ts": ("mpegts", "libx264"), ".m2t": ("mpegts", "mpeg2video"), ".tp": ("mpegts", "mpeg2video"),
    ".trp": ("mpegts", "mpeg2video"), ".tod": ("mpegts", "mpeg2video"), ".mpg": ("mpeg", "mpeg1video"),
    ".mpeg": ("mpeg", "mpeg2video"), ".vob": ("vob", "mpeg2video"), ".mod": ("vob", "mpeg2video"),
    ".m2p": ("vob", "mpeg2video"), ".m1v": ("mpeg1video", "mpeg1video"), ".m2v": ("mpeg2video", "mpeg2video"),
    ".mpv": ("mpeg2video", "mpeg2video"), ".asf": ("asf", "mpeg4"), ".wmv": ("asf", "wmv2"), ".flv": ("flv", "libx264"),
    ".ogv": ("ogv", "libtheora"), ".ogm": ("ogg", "libtheora"), ".rm": ("rm", "rv20"), ".mxf": ("mxf", "mpeg2video"),
    ".gxf": ("gxf", "mpeg2video"), ".nut": ("nut", "mpeg4"), ".wtv": ("wtv", "mpeg2video"), ".gif": ("gif", "gif"),
    ".apng": ("apng", "apng"), ".mjpeg": ("mjpeg", "mjpeg"), ".mjpg": ("mjpeg", "mjpeg"), ".h264": ("h264", "libx264"),
    ".264": ("h264", "libx264"), ".h265": ("hevc", "libx265"), ".hevc": ("hevc", "libx265"), ".ivf": ("ivf", "libvpx"),
    ".obu": ("obu", "libsvtav1"), ".y4m": ("yuv4mpegpipe", "wrapped_avframe"), ".amv": ("amv", "amv"), ".dv": ("dv", "dvvideo"),
}  # fmt: skip


def write(path, container, codec, frames=12):
    side = (720, 576) if codec == "dvvideo" or container in ("mxf", "gxf") else (176, 144)
    picture = np.random.default_rng(0).integers(0, 255, (side[1] // 16, side[0] // 16, 3), np.uint8)
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(
            codec, rate=25, options={"x265-params": "log-level=none"} if codec == "libx265" else {}
        )
        stream.width, stream.height = side
        stream.pix_fmt = {
            "mjpeg": "yuvj420p",
            "amv": "yuvj420p",
            "gif": "rgb8",
            "apng": "rgb24",
        }.get(codec, "yuv420p")
        for i in range(frames):
            rgb = np.roll(picture, i, 1).repeat(16, 0).repeat(16, 1)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_in_a_folder_can_be_opened(suffix, tmp_path):
    assert suffix in SUFFIXES
    container, codec = WRITERS[suffix]
    try:
        path = write(tmp_path / f"a{suffix}", container, codec)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"named: this PyAV cannot write {container} with {codec} ({error})")
    assert looks_like_video(path)
    with Decoder().open(path) as reader:
        assert reader.video.width in (176, 720)


def test_ffmpeg_knows_every_container_and_no_suffix_has_two():
    names = {name for entry in av.formats_available for name in entry.split(",")}
    assert not set(FORMATS) - names
    assert {s: n for s, n in Counter(" ".join(FORMATS.values()).split()).items() if n > 1} == {}
    assert all(s == s.lower() and s.startswith(".") for s in SUFFIXES)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("app.ts", b"export const a: number = 1;\n" * 9), ("app.d.mts", b"export {};\n"), ("empty.ts", b""),
        ("de.ts", '<?xml version="1.0"?><TS>ü</TS>'.encode()), ("wide.ts", "let a = 1".encode("utf-16")),
        ("go.mod", b"module example.org/x\n\ngo 1.21\n"), ("usb.mod", b"drivers/usb/core/usb.o\n\n"),
        ("grub.mod", b"\x7fELF\x01\x01\x01" + bytes(99)), ("music.mod", bytes(1080) + b"M.K." + bytes(99)),
        ("gs.TS", b"GGGG and more of plain text\n" * 40), ("latin.ts", "// ä ö ü".encode("latin-1")),
    ],
)  # fmt: skip
def test_rejects_non_videos_with_shared_suffix(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert not looks_like_video(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ts", (b"\x47" + bytes(187)) * 30), ("late.ts", bytes(100) + (b"\x47" + bytes(187)) * 30),
        ("a.mts", (bytes(4) + b"\x47" + bytes(187)) * 30), ("fec.ts", (b"\x47" + bytes(203)) * 30),
        ("torn.ts", bytes(9000)), ("noise.ts", np.random.default_rng(0).bytes(500)), ("a.mod", b"\0\0\1\xba" + bytes(99)),
        ("text.mp4", b"not a video"), ("missing.ts", None),
    ],
)  # fmt: skip
def test_possible_videos_are_accepted(name, content, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert looks_like_video(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named: no FIFOs here")
def test_does_not_wait_for_pipes(tmp_path):
    os.mkfifo(tmp_path / "a.ts")
    assert looks_like_video(tmp_path / "a.ts")
