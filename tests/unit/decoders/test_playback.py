"""Streams, times and pictures as players show them, with expected values by hand."""

import struct
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from conftest import number_in, number_picture
from vla.decoders.pyav import Decoder
from vla.errors import DecodeError
from vla.sampling import Sampling, at_fps

RATE = 10


def write(path, streams, container=None, sound=None, metadata=None):
    """A file of several streams.

    Each stream: `numbers` (of its pictures), and optionally `start` in seconds, `side`, `codec`, `flags`, `options`.
    `sound`: `(start, seconds)` of a tone.
    """
    with av.open(str(path), "w", format=container) as output:
        output.metadata.update(metadata or {})
        made, packets = [], []
        for given in streams:
            stream = output.add_stream(
                given.get("codec", "libx264"),
                rate=RATE,
                options=given.get("options", {"bf": "0", "g": "5"}),
            )
            stream.width = stream.height = given.get("side", 64)
            stream.pix_fmt = "yuvj420p" if given.get("codec") == "mjpeg" else "yuv420p"
            stream.codec_context.thread_count = 1
            if given.get("codec") == "mpeg2video":
                stream.codec_context.bit_rate = 4_000_000
            if "flags" in given:
                stream.disposition = given["flags"]
            made.append(stream)
        if sound:
            audio = output.add_stream("mp2", rate=44100, layout="mono")
            frames = [
                av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
                for _ in range(int(sound[1] * 44100 / 1152))
            ]
            for i, frame in enumerate(frames):
                frame.sample_rate, frame.pts = 44100, round(sound[0] * 44100) + i * 1152
                frame.time_base = Fraction(1, 44100)
                packets += audio.encode(frame)
            packets += audio.encode(None)
        for given, stream in zip(streams, made, strict=True):
            for i, number in enumerate(given["numbers"]):
                frame = av.VideoFrame.from_ndarray(
                    number_picture(number, given.get("side", 64)), format="rgb24"
                )
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = (
                    i + round(given.get("start", 0) * RATE),
                    Fraction(1, RATE),
                )
                packets += stream.encode(frame)
            packets += stream.encode(None)
        packets.sort(key=lambda p: p.dts * p.time_base)
        for packet in packets:
            output.mux(packet)
    return path


def shown(path, fps=RATE, **options):
    """Numbers and times of the frames, and the report; the same whether decoding is planned or not."""
    found = []
    for whole in (False, True):
        with Decoder(whole=whole, **options).open(path) as reader:
            chunks = list(reader.sample(at_fps(fps), 7))
            numbers = [number_in(p) for c in chunks for p in c.pixels]
            times = [float(t) for c in chunks for t in c.timestamps_seconds]
            found.append((numbers, times, reader.report))
    assert found[0] == found[1]
    return found[0]


def require_evenly(times, first=0.0):
    np.testing.assert_allclose(times, first + np.arange(len(times)) / RATE, atol=0.002)


# ---------------------------------------------------------------- joined recordings


JOINED = {
    "ts": ("mpegts", "libx264"), "mpg": ("vob", "mpeg2video"), "mkv": ("matroska", "libx264"), "webm": ("webm", "libvpx"),
    "avi": ("avi", "mpeg4"), "m2ts": ("mpegts", "mpeg2video"),
}  # fmt: skip


@pytest.mark.parametrize("kind", JOINED)
def test_joined_recordings_are_placed_end_to_end(kind, tmp_path):
    container, codec = JOINED[kind]
    parts = [
        write(
            tmp_path / f"{start}.{kind}",
            [{"numbers": range(start, start + 20), "codec": codec}],
            container,
        ).read_bytes()
        # FFmpeg reads the second segment of a Matroska file and no third.
        for start in ((0, 50) if kind in ("mkv", "webm") else (0, 50, 100))
    ]
    path = tmp_path / f"joined.{kind}"
    path.write_bytes(b"".join(parts))
    numbers, times, report = shown(path)
    assert numbers == [n + i for n in range(0, 50 * len(parts), 50) for i in range(20)]
    require_evenly(times)
    assert report.is_whole and report.coverage == 1 and (report.dropped, report.gaps) == (0, 0)
    assert report.end_seconds == pytest.approx(2.0 * len(parts), abs=0.01)


@pytest.mark.parametrize("bframes", [0, 3])
def test_joined_recordings_with_reordered_frames_and_late_start(bframes, tmp_path):
    """The second began 40 s in: a leap ahead without bytes between is a recording of its own, too; the third runs back."""
    options = {"bf": str(bframes), "g": "8"}
    parts = [
        write(
            tmp_path / f"{n}.ts",
            [{"numbers": range(n, n + 24), "options": options, "start": start}],
        ).read_bytes()
        for n, start in ((0, 3), (40, 40), (80, 20))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    numbers, times, report = shown(path)
    assert numbers == [*range(24), *range(40, 64), *range(80, 104)]
    require_evenly(times)
    assert report.is_whole and report.gaps == 0


def test_clock_wraparound(tmp_path):
    """Transport streams count to 2^33 at 90 kHz: 26.5 hours."""
    path = write(tmp_path / "a.ts", [{"numbers": range(30), "start": 95443.7 - 1.4 - 1.5}], None)
    numbers, times, report = shown(path)
    assert numbers == list(range(30)) and report.is_whole
    require_evenly(times)


@pytest.mark.parametrize("bframes", [0, 2])
def test_low_frame_rate_is_not_a_new_recording(bframes, tmp_path):
    """One in four seconds, reordered: times of packets run back by seconds."""
    path = tmp_path / "slow.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=1, options={"bf": str(bframes)})
        stream.width = stream.height = 64
        stream.codec_context.time_base = Fraction(1, 1)
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(number_picture(i), format="rgb24")
            frame.pts, frame.time_base = 4 * i, Fraction(1, 1)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    numbers, times, report = shown(path)
    assert numbers == list(range(20)) and report.is_whole and report.gaps == 0
    np.testing.assert_allclose(times, np.arange(20) * 4.0, atol=0.002)


def test_drops_and_counts_frames_with_equal_times(tmp_path):
    path = tmp_path / "twice.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=RATE)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        for i, time in enumerate([0, 100, 200, 200, 200, 300, 400]):
            frame = av.VideoFrame.from_ndarray(number_picture(i), format="rgb24").reformat(
                format="yuvj420p"
            )
            frame.pts = i
            for packet in stream.encode(frame):
                packet.pts, packet.dts, packet.time_base = time, time, Fraction(1, 1000)
                output.mux(packet)
    numbers, _, report = shown(path)
    assert numbers == [0, 1, 2, 5, 6]
    assert report.dropped == 2 and report.is_whole


# ---------------------------------------------------------------- zero


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov"])
def test_times_start_with_the_audio(suffix, tmp_path):
    """Sound from 0 to 5 s, picture from 2 s: frame 5 is on screen at 2.5 s."""
    path = write(tmp_path / f"a.{suffix}", [{"numbers": range(30), "start": 2}], sound=(0, 5))
    numbers, times, report = shown(path)
    assert numbers == list(range(30))
    np.testing.assert_allclose(times, 2 + np.arange(30) / RATE, atol=0.03)
    assert report.end_seconds == pytest.approx(5.0, abs=0.05) and report.is_whole
    with Decoder().open(path) as reader:
        assert [
            number_in(p) for p in reader.frames_at(np.array([0.0, 1.9, 2.55, 4.95])).pixels
        ] == [0, 0, 5, 29]
        assert [number_in(p) for c in reader.sample(Sampling("frames", 3)) for p in c.pixels] == [
            4,
            14,
            24,
        ]


@pytest.mark.parametrize(("picture", "sound"), [(3, 3), (1, 2), (100, 103)])
def test_ignores_common_start_offset(picture, sound, tmp_path):
    path = write(tmp_path / "a.mkv", [{"numbers": range(20), "start": picture}], sound=(sound, 1))
    numbers, times, report = shown(path)
    assert numbers == list(range(20)) and report.is_whole
    require_evenly(times)
    assert report.end_seconds == pytest.approx(2.0)


# ---------------------------------------------------------------- which stream


DEFAULT = av.stream.Disposition.default


@pytest.mark.parametrize(
    ("name", "streams", "first"),
    [
        ("default.mkv", [{"numbers": range(20), "flags": 0}, {"numbers": range(50, 70), "flags": DEFAULT}], 50),
        ("larger.mp4", [{"numbers": range(20), "flags": DEFAULT}, {"numbers": range(50, 70), "side": 128, "flags": DEFAULT}], 50),
        ("larger.ts", [{"numbers": range(20)}, {"numbers": range(50, 70), "side": 128}], 50),
        ("first.ts", [{"numbers": range(20)}, {"numbers": range(50, 70)}], 0),
        ("small_default.mkv", [{"numbers": range(20), "side": 128, "flags": 0}, {"numbers": range(50, 70), "flags": DEFAULT}], 50),
        ("picture.mp4", [{"numbers": [9], "codec": "mjpeg", "side": 256}, {"numbers": range(50, 70)}], 50),
        ("picture.mkv", [{"numbers": [9], "codec": "mjpeg", "side": 256}, {"numbers": range(50, 70)}], 50),
        ("signed.mkv", [{"numbers": range(20), "side": 128, "flags": av.stream.Disposition.hearing_impaired}, {"numbers": range(50, 70)}], 50),
    ],
)  # fmt: skip
def test_chooses_the_stream_that_players_show(name, streams, first, tmp_path):
    numbers, times, _ = shown(write(tmp_path / name, streams))
    assert numbers == list(range(first, first + 20))
    require_evenly(times)


def test_single_picture_is_a_video_of_one_frame(tmp_path):
    assert shown(write(tmp_path / "a.mp4", [{"numbers": [9], "codec": "mjpeg"}]))[0] == [9]


def test_ignores_damage_in_another_stream(tmp_path, monkeypatch):
    """Only our packets are read: what the demuxer would say of the others is never heard."""
    path = write(
        tmp_path / "a.mkv",
        [{"numbers": range(20), "flags": DEFAULT}, {"numbers": range(20), "flags": 0}],
        sound=(0, 2),
    )
    with Decoder().open(path) as reader:
        discards = {s.index: s.discard for s in reader._source.container.streams}
        assert [i for i, d in discards.items() if d != av.stream.Discard.all] == [
            reader._source.stream.index
        ]


# ---------------------------------------------------------------- pictures


def with_matrix(path, matrix):
    """Write `matrix` (a, b, c, d in 1/65536) over the identity in the track header of a MP4 file."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    content[place : place + 36] = struct.pack(
        ">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30 if any(matrix) else 0
    )
    path.write_bytes(content)
    return path


ONE = 1 << 16
ORIENTATIONS = {
    "as stored": ((ONE, 0, 0, ONE), lambda p: p),
    "turned clockwise": ((0, ONE, -ONE, 0), lambda p: np.rot90(p, -1)),
    "upside down": ((-ONE, 0, 0, -ONE), lambda p: np.rot90(p, 2)),
    "turned counterclockwise": ((0, -ONE, ONE, 0), lambda p: np.rot90(p)),
    "left is right": ((-ONE, 0, 0, ONE), lambda p: p[:, ::-1]),
    "top is bottom": ((ONE, 0, 0, -ONE), lambda p: p[::-1]),
    "rows are columns": ((0, ONE, ONE, 0), lambda p: p.transpose(1, 0, 2)),
    "mirrored at the other diagonal": (
        (0, -ONE, -ONE, 0),
        lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    ),
    "zeros": ((0, 0, 0, 0), lambda p: p),
    "singular": ((ONE, 0, ONE, 0), lambda p: p),
    "a little askew": ((65500, 2288, -2288, 65500), lambda p: p),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_orientation(name, clip):
    matrix, expected = ORIENTATIONS[name]
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:24, :48], picture[:24, 48:], picture[24:, :48] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    path = with_matrix(clip("a.mp4", pixels=np.stack([picture] * 3)), matrix)
    with Decoder().open(path) as reader:
        pixels = next(iter(reader.sample(at_fps(1)))).pixels[0]
    assert pixels.shape == expected(picture).shape
    assert np.abs(pixels.astype(int) - expected(picture)).mean() < 12


@pytest.mark.parametrize("sides", [(32, 128), (128, 32), (32, 64, 128)])
@pytest.mark.parametrize("inner", [None, "pyav"])
def test_each_picture_has_its_own_size(sides, inner, tmp_path):
    from vla.decoders import registry

    path = tmp_path / "sizes.ts"
    parts = [
        write(tmp_path / f"{s}.ts", [{"numbers": range(s, s + 10), "side": s}]).read_bytes()
        for s in sides
    ]
    path.write_bytes(b"".join(parts))
    with registry.build("isolated" if inner else "pyav").open(path) as reader:
        chunks = list(reader.sample(at_fps(RATE), 4))
        assert [p.shape[0] for c in chunks for p in c.pixels] == [
            s for s in sides for _ in range(10)
        ]
        assert [number_in(p) for c in chunks for p in c.pixels] == [
            s + i for s in sides for i in range(10)
        ]
        together = reader.frames_at(np.array([0.5, len(sides) - 0.5]))
        assert together.pixels.shape == (2, 128, 128, 3), (
            "together they have the size of the largest"
        )


BARS = np.array(
    [
        [199, 39, 39],
        [39, 179, 39],
        [39, 59, 199],
        [128, 128, 128],
        [239, 239, 239],
        [210, 168, 140],
        [30, 30, 30],
    ]
)


def hdr_codes(transfer, white=203.0):
    """10-bit R'G'B' in BT.2020 of BARS as a standard display shows them (gamma 2.4, `white` nits), by the standards' formulas."""
    light = (BARS / 255.0) ** 2.4
    to_2020 = np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    )
    light = light @ to_2020.T
    if transfer == 16:
        y = (light * white / 10_000) ** (2610 / 16384)
        code = ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)
    elif transfer == 18:
        nits = light * white / 1000
        luminance = nits @ [0.2627, 0.6780, 0.0593]
        scene = nits * (np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1))[:, None]
        with np.errstate(invalid="ignore"):
            code = np.where(
                scene <= 1 / 12,
                np.sqrt(3 * scene),
                0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073,
            )
    else:
        code = light ** (1 / 2.4)
    return code.clip(0, 1)


@pytest.mark.parametrize("transfer", [16, 18, 14], ids=["PQ", "HLG", "BT.2020 of standard range"])
def test_tone_mapping_of_hdr_and_wide_gamut(transfer, tmp_path):
    path = tmp_path / "hdr.mkv"
    code = hdr_codes(transfer)
    planes = np.stack([code[:, 1], code[:, 2], code[:, 0]])  # planes of GBR
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32 * len(BARS), 32, "gbrp10le"
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, 9
        for i in range(2):
            frame = av.VideoFrame(stream.width, stream.height, "gbrp10le")
            for plane, row in zip(frame.planes, planes, strict=True):
                values = np.round(row * 1023).astype("<u2").repeat(32)
                line = np.zeros(plane.line_size // 2, "<u2")
                line[: len(values)] = values
                plane.update(np.tile(line, 32).tobytes())
            frame.pts, frame.time_base = i, Fraction(1, 5)
            frame.color_trc, frame.color_primaries = transfer, 9
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with Decoder().open(path) as reader:
        pixels = next(iter(reader.sample(at_fps(5)))).pixels[0]
    found = pixels[16, 16::32].astype(int)
    assert np.abs(found - BARS).max() <= 6, found


def test_tone_mapping_keeps_highlight_contrast():
    from vla.decoders._tone_mapping import tone_map

    ramp = np.linspace(0, 65535, 256).astype(np.uint16).repeat(3).reshape(1, 256, 3).repeat(8, 0)
    for transfer in (16, 18):
        grey = tone_map(ramp, transfer, 9)[0, :, 0].astype(int)
        assert (np.diff(grey) >= 0).all() and grey[0] == 0 and grey[-1] == 255
        assert len(set(grey[150:].tolist())) > 20, (
            "what is brighter than white is compressed, not cut off"
        )


def test_large_hdr_pictures_are_reduced_first():
    from vla.decoders._picture import RgbConverter

    class Stream:
        sample_aspect_ratio = None

        class codec_context:
            sample_aspect_ratio = None

    frame = av.VideoFrame(3840, 2160, "yuv420p10le")
    frame.color_trc, frame.color_primaries = 16, 9
    assert RgbConverter(Stream())(frame).shape == (720, 1280, 3)


# ---------------------------------------------------------------- names and titles


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov"])
def test_titles_that_are_not_utf_8(suffix, tmp_path):
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = write(
        tmp_path / f"a.{suffix}",
        [{"numbers": range(5), "codec": codec}],
        metadata={"title": "QQQQ in Latin-1"},
    )
    content = path.read_bytes()
    assert content.count(b"QQQQ") == 1
    path.write_bytes(content.replace(b"QQQQ", b"\xe4\xf6\xfc\xff"))
    assert shown(path)[0] == list(range(5))


def test_no_warnings_from_pyav(tmp_path):
    """What PyAV is about to drop would be said as a warning."""
    path = write(tmp_path / "a.mp4", [{"numbers": range(5)}])
    code = f"""
from pathlib import Path
from vla.decoders.pyav import Decoder
from vla.sampling import Sampling, at_fps
for whole in (False, True):
    with Decoder(whole=whole).open(Path({str(path)!r})) as reader:
        for sampling in (at_fps(5), Sampling("keyframes"), Sampling("scenes"), Sampling("frames", 2)):
            assert list(reader.sample(sampling))
            assert reader.report.is_whole
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )


def test_times_always_increase(tmp_path):
    """Random joins of recordings in all kinds, some torn: every frame comes later than the one before."""
    rng = np.random.default_rng(0)
    made = {
        kind: write(
            tmp_path / f"part.{kind}",
            [{"numbers": range(20), "codec": codec, "start": 1}],
            container,
        ).read_bytes()
        for kind, (container, codec) in JOINED.items()
    }
    for kind, content in made.items():
        for k in range(6):
            pieces = [content] + [
                content[
                    int(rng.integers(0, len(content) // 2)) : int(
                        rng.integers(len(content) // 2, len(content))
                    )
                ]
                for _ in range(3)
            ]
            path = tmp_path / f"torn{k}.{kind}"
            path.write_bytes(b"".join(pieces))
            try:
                with Decoder().open(path) as reader:
                    times = [t for c in reader.sample(at_fps(RATE)) for t in c.timestamps_seconds]
            except DecodeError:
                continue
            assert all(a < b for a, b in pairwise(times)), path.name
