"""Contract of decoders: the right frames with their times, upright; other files are refused."""

import os
import shutil
import threading
from fractions import Fraction

import numpy as np
import pytest

from vla.decoders import registry
from vla.errors import DecodeError, EnvironmentUnfitError
from vla.sampling import at_fps


def usable(name):
    try:
        registry.build(name).close()
    except EnvironmentUnfitError:
        return False
    return True


# torchcodec needs FFmpeg's libraries from the system, which neither pip nor a plain machine brings.
USABLE = [name for name in registry.names() if name != "torchcodec" or usable(name)]
pytestmark = pytest.mark.parametrize("decoder", USABLE)

# Containers round times to their own grid; frames that miss a sampling time by less than this count as on screen.
SLACK = Fraction(1, 2000)
MILLISECOND = Fraction(1, 1000)

CLIPS = {
    "even mp4": {},
    "25 a second": {"fps": 25, "frames": 60},
    "ntsc": {"fps": 30000 / 1001, "frames": 60},
    "matroska": {"name": "c.mkv", "fps": 30, "frames": 60},
    "b-frames": {"bframes": 2, "frames": 31},
    "b-frames in matroska": {"name": "c.mkv", "bframes": 3, "fps": 24, "frames": 50},
    "transport stream from 1.4 s": {"name": "c.ts", "bframes": 2, "start": 1.4, "fps": 25, "frames": 40},
    "matroska from 3 s": {"name": "c.mkv", "start": 3.0},
    "one frame": {"frames": 1},
    "vp8": {"name": "c.webm", "codec": "libvpx"},
    "mpeg4 in avi": {"name": "c.avi", "codec": "mpeg4"},
    "mjpeg in mov": {"name": "c.mov", "codec": "mjpeg"},
    "ffv1": {"name": "c.mkv", "codec": "ffv1"},
    "with sound": {"audio": True},
    "uneven": {"pts": [0, 40, 45, 90, 500, 501, 1000, 1900, 1950], "time_base": MILLISECOND},
    "uneven with b-frames": {"pts": [0, 33, 70, 400, 410, 420, 900, 2000], "time_base": MILLISECOND, "bframes": 2},
    "uneven in matroska": {"name": "c.mkv", "pts": [0, 10, 600, 610, 1400, 3000], "time_base": MILLISECOND, "start": 0.5},
}  # fmt: skip
RATES = (1, 2, 3, 7.5, 10, 29.97, 60)


def opened(decoder, path):
    return registry.build(decoder).open(path)


def sampled(reader, clip, fps, chunk=32):
    """`[(number, time)]` of everything that `sample` gives."""
    found = []
    for frames in reader.sample(at_fps(fps), chunk):
        assert frames.pixels.dtype == np.uint8 and 1 <= len(frames) <= chunk
        found += [
            (clip.number(p), float(t))
            for p, t in zip(frames.pixels, frames.timestamps_seconds, strict=True)
        ]
    return found


def on_screen(shown, times):
    """The last frame whose time is not after each of `times`, as far as the clip goes; before the first, the first."""
    found = []
    for t in times:
        if t < shown[-1].end:
            found.append([shown[0], *(s for s in shown if s.time <= t + SLACK)][-1])
    return found


def expected(shown, fps):
    """What sampling at `fps` must give, from the plain decode."""
    step = 1 / Fraction(fps).limit_denominator(100_000)
    count = int(shown[-1].end / step) + 2
    chosen = dict.fromkeys(on_screen(shown, [k * step for k in range(count)]))
    return [(s.number, float(s.time)) for s in chosen]


def same(found, wanted):
    assert [n for n, _ in found] == [n for n, _ in wanted]
    np.testing.assert_allclose([t for _, t in found], [t for _, t in wanted], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", CLIPS)
def test_sampling_gives_the_frames_on_screen_each_once_with_its_own_time(decoder, kind, clip):
    path = clip(**CLIPS[kind])
    shown = clip.shown(path)
    assert [s.number for s in shown] == list(range(len(shown)))  # the plain decode itself is right
    with opened(decoder, path) as reader:
        for fps in RATES:
            same(sampled(reader, clip, fps), expected(shown, fps))
            assert reader.report.errors == 0 and reader.report.is_whole
            assert reader.report.end_seconds == pytest.approx(float(shown[-1].end), abs=0.002)


def test_sampling_by_hand(decoder, clip):
    """Ten frames a second, asked for every third of a second: those at 0, 0.3, 0.6, 1.0, 1.3, 1.6 s."""
    with opened(decoder, clip(frames=20, fps=10)) as reader:
        found = sampled(reader, clip, 3)
    assert [n for n, _ in found] == [0, 3, 6, 10, 13, 16]
    assert [t for _, t in found] == pytest.approx([0.0, 0.3, 0.6, 1.0, 1.3, 1.6])


def test_long_frame_is_sampled_once(decoder, clip):
    """On screen for two seconds, sampled ten times a second: once, at the time when it came up."""
    with opened(decoder, clip(pts=[0, 100, 2100, 2200], time_base=MILLISECOND)) as reader:
        found = sampled(reader, clip, 10)
    assert [(n, round(t, 3)) for n, t in found] == [(0, 0.0), (1, 0.1), (2, 2.1), (3, 2.2)]


@pytest.mark.parametrize(
    "kind", ["even mp4", "b-frames", "transport stream from 1.4 s", "uneven in matroska"]
)
def test_frames_at_returns_frames_on_screen(decoder, kind, clip):
    path = clip(**CLIPS[kind])
    shown = clip.shown(path)
    end = float(shown[-1].end)
    times = np.sort(np.random.default_rng(0).uniform(0, end - 0.01, 25))
    times[5] = times[6]  # the same time twice gives the same frame twice
    wanted = on_screen(shown, [Fraction(t) for t in times])
    with opened(decoder, path) as reader:
        together = reader.frames_at(times)
        assert [clip.number(p) for p in together.pixels] == [s.number for s in wanted]
        np.testing.assert_allclose(
            together.timestamps_seconds, [float(s.time) for s in wanted], rtol=0, atol=1e-9
        )
        for i in (0, 5, 24):  # singly as together
            alone = reader.frames_at(times[i : i + 1])
            np.testing.assert_array_equal(alone.pixels[0], together.pixels[i])


def test_frames_at_the_sampled_times_are_the_sampled_frames(decoder, clip):
    with opened(decoder, clip(frames=30, bframes=2)) as reader:
        frames = list(reader.sample(at_fps(4)))[0]
        again = reader.frames_at(frames.timestamps_seconds)
    np.testing.assert_array_equal(again.pixels, frames.pixels)
    np.testing.assert_array_equal(again.timestamps_seconds, frames.timestamps_seconds)


def test_frames_at_rejects_times_after_the_end(decoder, clip):
    with opened(decoder, clip(frames=10, fps=10)) as reader:
        assert clip.number(reader.frames_at(np.array([0.999])).pixels[0]) == 9
        with pytest.raises(
            DecodeError, match=r"no frame is on screen at 1.500 s; the video ends at 1.000 s"
        ) as error:
            reader.frames_at(np.array([0.5, 1.5]))
    assert error.value.reason == "past-the-end"


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunk_size_does_not_change_frames(decoder, chunk, clip):
    path = clip(frames=20, bframes=2)
    with opened(decoder, path) as reader:
        whole = list(reader.sample(at_fps(10), 32))
        parts = list(reader.sample(at_fps(10), chunk))
    assert [len(p) for p in parts] == [chunk] * (20 // chunk) + [20 % chunk] * bool(20 % chunk)
    np.testing.assert_array_equal(np.concatenate([p.pixels for p in parts]), whole[0].pixels)
    np.testing.assert_array_equal(
        np.concatenate([p.timestamps_seconds for p in parts]), whole[0].timestamps_seconds
    )


@pytest.mark.parametrize(
    "kind", ["even mp4", "b-frames", "transport stream from 1.4 s", "matroska from 3 s", "vp8"]
)
def test_a_reader_may_sample_again_even_after_stopping_midway(decoder, kind, clip):
    path = clip(**CLIPS[kind])
    with opened(decoder, path) as reader:
        first = sampled(reader, clip, 5)
        next(iter(reader.sample(at_fps(10), 2)))  # left in the middle
        assert sampled(reader, clip, 5) == first
    with opened(decoder, path) as other:
        assert sampled(other, clip, 5) == first


QUADRANTS = np.array(
    [[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]]], np.uint8
)  # red green / blue white
PICTURE = QUADRANTS.repeat(32, 0).repeat(48, 1)


def corners(pixels):
    """Colours in the middle of the four quadrants, as 0 or 1 a channel."""
    h, w = pixels.shape[:2]
    return (pixels[[h // 4, 3 * h // 4]][:, [w // 4, 3 * w // 4]] > 125).astype(int).tolist()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_stand_upright(decoder, rotation, clip):
    """A file that is to be shown turned by N degrees counterclockwise comes out turned so."""
    path = clip(pixels=np.stack([PICTURE] * 3), rotation=rotation)
    with opened(decoder, path) as reader:
        frames = next(iter(reader.sample(at_fps(1))))
    turned = np.rot90(PICTURE, rotation // 90)
    assert frames.pixels.shape[1:] == turned.shape
    assert (
        corners(frames.pixels[0])
        == (np.rot90(QUADRANTS, rotation // 90) > 125).astype(int).tolist()
    )


@pytest.mark.parametrize(
    ("aspect", "width"), [(Fraction(4, 3), 128), (Fraction(1, 2), 48), (Fraction(1), 96)]
)
def test_pixels_come_out_square(decoder, aspect, width, clip):
    with opened(decoder, clip(pixels=np.stack([PICTURE] * 3), aspect=aspect)) as reader:
        frames = next(iter(reader.sample(at_fps(1))))
    assert frames.pixels.shape == (1, 64, width, 3)
    assert corners(frames.pixels[0]) == (QUADRANTS > 125).astype(int).tolist()


def test_square_pixels_first_then_upright(decoder, clip):
    path = clip(pixels=np.stack([PICTURE] * 3), aspect=Fraction(4, 3), rotation=90)
    with opened(decoder, path) as reader:
        assert next(iter(reader.sample(at_fps(1)))).pixels.shape == (1, 128, 64, 3)


def test_probe_returns_declared_metadata(decoder, clip):
    video = registry.build(decoder).probe(clip(frames=30, fps=15))
    assert (video.width, video.height, video.codec) == (64, 64, "h264")
    assert video.duration_seconds == pytest.approx(2.0, abs=0.01)
    assert video.fps == pytest.approx(15)


def test_colours_are_rgb(decoder, clip):
    colour = np.array([200, 60, 20], np.uint8)
    with opened(decoder, clip(pixels=np.broadcast_to(colour, (3, 64, 64, 3)))) as reader:
        pixels = next(iter(reader.sample(at_fps(1)))).pixels
    assert np.abs(pixels.astype(int) - colour).max() <= 6


def refused(decoder, path):
    """The error of opening and decoding `path`."""
    with pytest.raises(DecodeError) as error, opened(decoder, path) as reader:
        list(reader.sample(at_fps(2)))
    assert str(error.value).startswith(f"{path.name}: ")
    return error.value.reason


def test_rejects_other_files_with_reason(decoder, tmp_path, clip):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video, " * 500)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone")
    whole = clip("whole.mp4").read_bytes()
    (tmp_path / "head.mp4").write_bytes(
        whole[:100]
    )  # an mp4 whose table of contents, at its end, is lost
    found = {
        name: refused(decoder, tmp_path / f"{name}.mp4")
        for name in ("empty", "text", "noise", "folder", "dangling", "missing", "head")
    }
    assert found == {
        "empty": "empty-file", "text": "not-a-video", "noise": "not-a-video", "folder": "not-a-file",
        "dangling": "missing", "missing": "missing", "head": "not-a-video",
    }  # fmt: skip


def test_rejects_file_without_video(decoder, tmp_path):
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert refused(decoder, tmp_path / "sound.mp4") == "no-video-stream"


def test_rejects_pipe(decoder, tmp_path):
    """Opening a FIFO for reading would wait for a writer for ever."""
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    reasons = []
    thread = threading.Thread(target=lambda: reasons.append(refused(decoder, path)), daemon=True)
    thread.start()
    thread.join(10)
    assert reasons == ["not-a-file"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("concat", "ffconcat version 1.0\nfile 'whole.mp4'\n"),
        ("hls", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\nwhole.mp4\n#EXT-X-ENDLIST\n"),
        ("sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
        ("dash", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".mkv"])
def test_rejects_playlists(decoder, name, text, suffix, tmp_path, clip):
    """They would make the library open other files and addresses."""
    clip("whole.mp4")
    path = tmp_path / f"{name}{suffix}"
    path.write_text(text)
    assert refused(decoder, path) == "not-a-video"


@pytest.mark.parametrize(
    "name",
    ["concat:a|b.mp4", "-x.mp4", "new\nline.mp4", "%d.mp4", "%03d.mp4", "http:x.mp4", "file:y.mp4", "a b?c#d.mp4",
     "pipe:0.mp4", "ünï.mp4", "no suffix", "wrong.txt", "[1-2].mp4", "subfile,,start,0,end,9,,:a.mp4"],
)  # fmt: skip
def test_name_is_not_taken_for_url(decoder, name, clip, tmp_path, monkeypatch):
    path = tmp_path / name
    shutil.copy(clip("plain.mp4", frames=5), path)
    with opened(decoder, path) as reader:
        assert [n for n, _ in sampled(reader, clip, 10)] == [0, 1, 2, 3, 4]
    monkeypatch.chdir(tmp_path)
    with opened(decoder, type(path)(name)) as reader:  # relative, too
        assert len(sampled(reader, clip, 10)) == 5


def test_a_name_that_is_not_utf_8(decoder, clip, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(clip("plain.mp4", frames=5), path)
    with opened(decoder, path) as reader:
        assert len(sampled(reader, clip, 10)) == 5


def test_truncated_file_yields_frames_before_the_end(decoder, clip, tmp_path):
    """Matroska can be read as far as it goes: the frames are right and the report says that it is not the whole."""
    path = clip("torn.mkv", frames=60, fps=10)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with opened(decoder, path) as reader:
        found = sampled(reader, clip, 10)
        assert not reader.report.is_whole
        assert 0 < reader.report.coverage < 0.9
    assert 5 < len(found) < 55
    assert [n for n, _ in found[:-2]] == list(range(len(found) - 2))


def test_reports_damage_in_the_middle(decoder, clip):
    path = clip("bad.mp4", frames=60, fps=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = bytes(600)
    path.write_bytes(content)
    with opened(decoder, path) as reader:
        found = sampled(reader, clip, 10)
        assert reader.report.errors > 0 and reader.report.first_error
        assert not reader.report.is_whole
    assert [n for n, _ in found[:5]] == [0, 1, 2, 3, 4]
    assert all(a < b for (_, a), (_, b) in zip(found, found[1:], strict=False))


def test_rejects_large_pictures_before_allocation(decoder, clip):
    path = clip(frames=3, side=64)
    with pytest.raises(
        DecodeError, match="a picture of 64x64 pixels exceeds the limit of 4000 pixels"
    ) as error:
        registry.build(decoder, {"max_pixels": 4000}).open(path)
    assert error.value.reason == "too-large"
