"""Losses are detected by evidence: damage counts, stale lengths and long pauses do not."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from conftest import number_picture
from vla.decoders._structure import is_cut
from vla.decoders.pyav import Decoder
from vla.sampling import at_fps

KINDS = {
    "mkv": ("libx264", "matroska,webm"), "webm": ("libvpx", "matroska,webm"), "avi": ("mpeg4", "avi"), "flv": ("flv", "flv"),
    "asf": ("mpeg4", "asf"), "ts": ("libx264", "mpegts"), "mpg": ("mpeg2video", "mpeg"), "mp4": ("libx264", "mov,mp4"),
}  # fmt: skip
STATED = ["mkv", "webm", "avi", "flv", "asf"]


def write(path, codec, frames=200, pts=None, sound=False, base=None):
    """Noise, so that each frame takes its bytes."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        rate = 25 if codec == "mpeg2video" else 10
        stream = output.add_stream(codec, rate=rate, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        if base:
            stream.codec_context.time_base = base
        tone = output.add_stream("mp2", rate=44100, layout="mono") if sound else None
        last = 0
        for i in range(frames):
            picture = number_picture(i % 256) // 2 + rng.integers(0, 100, (64, 64, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (i, Fraction(1, rate)) if pts is None else (pts[i], base)
            for k in range(
                last, round(float(frame.pts * frame.time_base) * 44100 / 1152) if tone else 0
            ):
                samples = av.AudioFrame.from_ndarray(
                    rng.integers(-9999, 9999, (1, 1152), np.int16), "s16", "mono"
                )
                samples.sample_rate, samples.pts, samples.time_base = (
                    44100,
                    k * 1152,
                    Fraction(1, 44100),
                )
                output.mux(tone.encode(samples))
                last = k + 1
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def report(path, fps=2, whole=False):
    with Decoder(whole=whole).open(path) as reader:
        count = sum(len(c) for c in reader.sample(at_fps(fps)))
        return reader.report, count


@pytest.mark.parametrize("kind", KINDS)
def test_complete_file_has_no_losses(kind, tmp_path):
    path = write(tmp_path / f"a.{kind}", KINDS[kind][0])
    for whole in (False, True):
        found, _ = report(path, whole=whole)
        assert found.is_whole and found.coverage == pytest.approx(1, abs=0.02)
        assert (found.errors, found.gaps, found.is_cut) == (0, 0, False)
        # libav gives two frames of this program stream the same time.
        assert found.dropped == (kind == "mpg")
    assert is_cut(path, KINDS[kind][1]) in (False, None)


@pytest.mark.parametrize("filler", [b"\0", b"\xa7"], ids=["zeros", "rubbish"])
@pytest.mark.parametrize("kind", KINDS)
def test_counts_gap_in_the_middle(kind, filler, tmp_path):
    path = write(tmp_path / f"a.{kind}", KINDS[kind][0])
    content = bytearray(path.read_bytes())
    begin, end = len(content) * 4 // 10, len(content) * 7 // 10
    content[begin:end] = filler * (end - begin)
    path.write_bytes(content)
    found, count = report(path)
    assert not found.is_whole
    assert count < (16 if kind == "mpg" else 40)
    if kind in ("mkv", "webm", "flv", "asf", "ts", "mpg"):
        length = 8 if kind == "mpg" else 20
        assert found.gaps >= 1 and 0.15 * length < found.gap_seconds < 0.5 * length
        assert 0.5 < found.coverage < 0.85


@pytest.mark.parametrize("kind", STATED)
def test_coverage_of_half_a_file(kind, tmp_path):
    path = write(tmp_path / f"a.{kind}", KINDS[kind][0])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert is_cut(path, KINDS[kind][1]) is True
    found, _ = report(path)
    assert not found.is_whole
    assert found.is_cut or 0.4 < found.coverage < 0.6


def test_truncated_fragments(tmp_path):
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "frag_keyframe+empty_moov"}) as output:
        stream = output.add_stream("libx264", rate=10, options={"g": "10"})
        stream.width = stream.height = 64
        for i in range(100):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(number_picture(i), format="rgb24")))
        output.mux(stream.encode(None))
    content = whole.read_bytes()
    assert report(whole)[0].is_whole
    (tmp_path / "cut.mp4").write_bytes(content[: content.index(b"moof", len(content) // 2) + 200])
    found, _ = report(tmp_path / "cut.mp4")
    assert not found.is_whole and found.is_cut


def stale_matroska(content):
    """DURATION of the track and Duration of the segment: an hour and more."""
    content = content.replace(b"00:00:20", b"01:00:20")
    place = content.index(b"\x44\x89\x88") + 3
    return content[:place] + struct.pack(">d", 3_620_000.0) + content[place + 8 :]


def stale_tag(content):
    assert content.count(b"00:00:20") == 1
    return content.replace(b"00:00:20", b"01:00:20")


def stale_mp4(content):
    """Lengths in the headers of movie, track, media, and in the edit list; the table of samples says otherwise."""
    content = bytearray(content)
    for kind, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        place = content.index(kind) + offset
        content[place : place + 4] = struct.pack(">I", 2_000_000)
    return bytes(content)


def stale_flv(content):
    place = content.index(b"duration\0") + 9
    return content[:place] + struct.pack(">d", 3620.0) + content[place + 8 :]


@pytest.mark.parametrize(
    ("kind", "alter"),
    [
        ("mkv", stale_tag),
        ("mkv", stale_matroska),
        ("webm", stale_matroska),
        ("mp4", stale_mp4),
        ("flv", stale_flv),
    ],
)
def test_ignores_stale_declared_length(kind, alter, tmp_path):
    path = write(tmp_path / f"a.{kind}", KINDS[kind][0])
    path.write_bytes(alter(path.read_bytes()))
    found, count = report(path)
    assert found.is_whole and found.coverage > 0.9 and count == 40
    assert found.end_seconds == pytest.approx(20, abs=0.3)
    if kind != "mp4":  # a MP4 file without its end cannot be opened
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert not report(path)[0].is_whole


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("kind", ["mkv", "mp4", "flv", "ts", "asf"])
def test_pauses_are_not_gaps(kind, sound, tmp_path):
    """A screen that was recorded only when it changed: 30 frames a second, then nothing for seconds, with sound or without."""
    pts, time = [], 0
    for pause in (3000, 7000, 1500):
        pts += range(time, time + 900, 33)
        time += 900 + pause
    if kind == "flv" and sound:
        pytest.skip("named: FLV takes no MP2 sound")
    path = write(tmp_path / f"a.{kind}", KINDS[kind][0], len(pts), pts, sound, Fraction(1, 1000))
    for whole in (False, True):
        found, _ = report(path, 5, whole)
        assert found.is_whole and found.gaps == 0 and found.dropped == 0


@pytest.mark.parametrize("kind", ["mkv", "mp4", "ts", "avi"])
def test_slides_are_not_gaps(kind, tmp_path):
    path = write(
        tmp_path / f"a.{kind}", KINDS[kind][0], 8, [5 * i for i in range(8)], base=Fraction(1, 1)
    )
    found, count = report(path)
    assert found.is_whole and count == 8 and found.gaps == 0


@pytest.mark.parametrize(
    ("kind", "times"), [("mp4", 2), ("flv", 2), ("asf", 2), ("mkv", 3), ("webm", 3)]
)
def test_reports_unread_recording(kind, times, tmp_path):
    """FFmpeg, and so players, show the first alone, of Matroska the first two."""
    path = write(tmp_path / f"a.{kind}", KINDS[kind][0])
    assert not report(path)[0].has_more
    path.write_bytes(path.read_bytes() * times)
    found, _ = report(path)
    assert found.has_more and not found.is_whole


def test_fully_read_joined_file_has_no_more(tmp_path):
    for kind in ("mkv", "ts", "avi"):
        path = write(tmp_path / f"a.{kind}", KINDS[kind][0])
        path.write_bytes(path.read_bytes() * 2)
        assert not report(path)[0].has_more
