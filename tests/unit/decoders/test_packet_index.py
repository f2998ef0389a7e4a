"""Decoding only the packets needed gives the frames of a full decode, bit for bit."""

from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vla.decoders._index import DROP, JUMP, PASS, SHOW, IndexMismatchError, PacketIndex
from vla.decoders._packets import Packets
from vla.decoders.pyav import Decoder, PyavReader
from vla.sampling import Sampling, at_fps

ENCODERS = {
    "h264 with b-frames": ("a.mp4", "libx264", {"g": "24", "bf": "3"}),
    "h264 b-pyramid": ("a.mkv", "libx264", {"g": "30", "x264-params": "bframes=5:b-pyramid=normal:keyint=30"}),
    "h264 open groups": ("a.mp4", "libx264", {"x264-params": "keyint=20:open-gop=1:bframes=3:scenecut=0"}),
    "h264 in a transport stream": ("a.ts", "libx264", {"g": "24", "bf": "2"}),
    "h264 one keyframe": ("a.mp4", "libx264", {"g": "1000"}),
    "h264 intra refresh": ("a.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=20"}),
    "h264 only keyframes": ("a.mp4", "libx264", {"g": "1"}),
    "hevc open groups": ("a.mp4", "libx265", {"x265-params": "keyint=20:open-gop=1:bframes=3:log-level=none"}),
    "hevc closed groups": ("a.mkv", "libx265", {"x265-params": "keyint=20:open-gop=0:bframes=4:log-level=none"}),
    "vp8": ("a.webm", "libvpx", {"g": "20", "auto-alt-ref": "1", "deadline": "realtime"}),
    "vp9 with alt-refs": ("a.webm", "libvpx-vp9", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "12", "cpu-used": "8"}),
    "av1": ("a.mkv", "libsvtav1", {"g": "20", "preset": "12"}),
    "mpeg4": ("a.mp4", "mpeg4", {"g": "15", "bf": "2"}),
    "mpeg2 in a transport stream": ("a.ts", "mpeg2video", {"g": "15", "bf": "2"}),
    "mpeg4 in avi": ("a.avi", "mpeg4", {"g": "15"}),
    "mjpeg": ("a.mov", "mjpeg", {}),
}  # fmt: skip


def write(path, codec, options, frames=75, pts=None, rate=25):
    """A moving picture with noise: every frame differs from its neighbours."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (64, 96, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = (
            96,
            64,
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
        )
        if pts is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(
                np.roll(base, 3 * i, 1) // 2 + rng.integers(0, 90, base.shape, np.uint8)
            )
            if pts is not None:
                frame.pts, frame.time_base = pts[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sampled(path, sampling, whole):
    """Times, pixels and report of `sample`, and how often every frame had to be decoded."""
    fell_back = []
    through = PyavReader._through_all

    class Watched(PyavReader):
        def _through_all(self, *given):
            fell_back.append(1)
            return through(self, *given)

    with Watched(path, 10**8, whole) as reader:
        chunks = list(reader.sample(sampling))
        times = np.concatenate([c.timestamps_seconds for c in chunks])
        return times, np.concatenate([c.pixels for c in chunks]), reader.report, len(fell_back)


def require_same(path, sampling):
    indexed, whole = sampled(path, sampling, False), sampled(path, sampling, True)
    np.testing.assert_array_equal(indexed[0], whole[0])
    np.testing.assert_array_equal(indexed[1], whole[1])
    assert indexed[2] == whole[2]
    return indexed[3] == 0


@pytest.mark.parametrize(
    ("kind", "sampling"),
    [
        (kind, sampling)
        for kind in ENCODERS
        for sampling in ("fps=0.7", "fps=2", "fps=9", "frames=5", "keyframes", "scenes")
        # Container and decoder disagree there about which frames are keyframes; keyframes are documented as approximate.
        if (kind, sampling) != ("h264 intra refresh", "keyframes")
    ],
)
def test_indexed_decoding_equals_full_decoding(kind, sampling, tmp_path):
    name, codec, options = ENCODERS[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    used_index = require_same(write(tmp_path / name, codec, options), Sampling.parse(sampling))
    # MPEG-4 in AVI is never indexed; a decoder that needs twenty frames to recover gives no frame at its "keyframe".
    assert used_index or kind in ("mpeg4 in avi", "h264 intra refresh")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_uneven_times(codec, seed, tmp_path):
    rng = np.random.default_rng(seed)
    pts = np.cumsum(rng.choice([1, 5, 33, 40, 400, 1500], 60)).tolist()
    options = {"g": "12", "bf": "3", "x265-params": "log-level=none:keyint=12"}
    path = write(
        tmp_path / "a.mp4",
        codec,
        options if codec == "libx265" else {"g": "12", "bf": "3"},
        60,
        pts,
    )
    assert require_same(path, at_fps(float(rng.choice([0.5, 1, 2, 10]))))


@pytest.mark.parametrize("seed", range(40))
def test_indexed_decoding_of_damaged_files(seed, tmp_path):
    """Bytes in the middle of the file are altered: time does not run backwards, and half of the frames at least are there.

    The pictures may differ where they are damaged: what a decoder puts in place of what is lost hangs on what it saw.
    """
    rng = np.random.default_rng(seed)
    name, codec, options = list(ENCODERS.values())[seed % 4]
    path = write(tmp_path / name, codec, options)
    content = bytearray(path.read_bytes())
    for place in rng.integers(len(content) // 4, len(content) * 3 // 4, int(rng.integers(1, 40))):
        content[place] ^= int(rng.integers(1, 256))
    path.write_bytes(content)
    indexed = sampled(path, at_fps(2), False)
    everything = sampled(path, at_fps(25), True)
    assert (np.diff(indexed[0]) > 0).all()
    assert len(indexed[0]) >= len(everything[0]) / 25 * 2 / 2
    assert len(indexed[1]) == len(indexed[0])
    with Decoder().open(path) as reader:
        found = reader.frames_at(np.arange(0.1, everything[0][-1], 0.3))
    assert (np.diff(found.timestamps_seconds) >= 0).all()


def test_times_increase_when_index_fails_midway(tmp_path, monkeypatch):
    def misled(self, index, wanted, to_end):
        frame, time = next(islice(self._decode(), 30, None))
        yield frame, time
        raise IndexMismatchError

    monkeypatch.setattr(PyavReader, "_through_index", misled)
    times, *_ = sampled(write(tmp_path / "a.mp4", "libx264", {"g": "12"}), at_fps(1), False)
    assert times.tolist() == [1.2, 2.0]


def test_tick_is_called_for_every_packet(tmp_path):
    signs = []
    reader = PyavReader(write(tmp_path / "a.mp4", "libx264", {"g": "12"}), 10**8)
    reader.tick = lambda: signs.append(1)
    index, _ = reader._source.read_index(reader.tick)
    assert len(signs) >= len(index.pts) == 75


def test_skips_packets_of_late_streams():
    """PyAV's demuxer fails at a packet of a stream that was not there when the file was opened, and can be asked again."""

    left = ["a", "b", IndexError, "c", IndexError, "end"]
    left = [SimpleNamespace(size=0, name=item) if isinstance(item, str) else item for item in left]

    class Container:
        format, size = SimpleNamespace(flags=0, name="mpegts"), 0

        def demux(self, stream):
            while left:
                item = left.pop(0)
                if item is IndexError:
                    raise IndexError("list index out of range")
                yield item

    stream = SimpleNamespace(
        time_base=Fraction(1, 90000),
        average_rate=Fraction(25),
        codec_context=SimpleNamespace(name="h264"),
    )
    assert [p.name for p in Packets(Container(), stream)] == ["a", "b", "c", "end"]


@pytest.mark.parametrize("sampling", ["fps=2", "fps=240", "scenes", "frames=3"])
@pytest.mark.parametrize("place", [1, 2])
def test_samples_very_long_frame_once(place, sampling, tmp_path):
    pts = [0, 400, 800]
    pts[place:] = [t + 10**12 for t in pts[place:]]
    path = write(tmp_path / "a.mkv", "libx264", {"g": "12"}, 3, pts)
    with Decoder().open(path) as reader:
        times = np.concatenate(
            [c.timestamps_seconds for c in reader.sample(Sampling.parse(sampling))]
        )
    assert set(times) <= {t / 1000 for t in pts} and len(times) == len(set(times)) >= 1
    require_same(path, Sampling.parse(sampling))


def test_file_starting_within_group_is_decoded_whole(tmp_path):
    path = write(tmp_path / "a.ts", "libx264", {"g": "24", "bf": "2"})
    content = path.read_bytes()
    path.write_bytes(content[188 * 60 :])
    require_same(path, at_fps(5))


def test_frames_at_random_times(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", {"g": "12", "bf": "3"})
    times = np.sort(np.random.default_rng(0).uniform(0, 2.99, 40))
    found = [Decoder(whole=whole).open(path).frames_at(times) for whole in (False, True)]
    np.testing.assert_array_equal(found[0].pixels, found[1].pixels)
    np.testing.assert_array_equal(found[0].timestamps_seconds, found[1].timestamps_seconds)


def test_even_frames_by_hand(tmp_path):
    """40 frames at 25 a second, the last at 1.56 s: five parts of .312 s, frames on screen at .156, .468 ... seconds."""
    path = write(tmp_path / "a.mp4", "libx264", {"g": "12"}, frames=40)
    times, _, report, _ = sampled(path, Sampling("frames", 5), False)
    assert times.tolist() == [0.12, 0.44, 0.76, 1.08, 1.4]
    assert report.end_seconds == 1.6


def test_more_even_frames_than_frames(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", {}, frames=6)
    assert sampled(path, Sampling("frames", 100), False)[0].tolist() == [
        0.0,
        0.04,
        0.08,
        0.12,
        0.16,
    ]


def test_keyframes_by_hand(tmp_path):
    path = write(
        tmp_path / "a.mp4", "libx264", {"g": "10", "sc_threshold": "0", "bf": "2"}, frames=35
    )
    times, _, report, _ = sampled(path, Sampling("keyframes"), False)
    assert times.tolist() == [0.0, 0.4, 0.8, 1.2]
    assert report.is_whole and report.end_seconds == pytest.approx(1.4)


def test_scenes_by_hand(tmp_path):
    """Three shots of 3, 25 and 2 seconds: the long one gives the middle of each of its three thirds."""
    path = tmp_path / "a.mp4"
    lengths, rate = (3, 25, 2), 10
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = 64
        for length in lengths:
            ground = rng.integers(0, 255, (4, 4, 3), np.uint8).repeat(16, 0).repeat(16, 1)
            for i in range(length * rate):
                pixels = ground.copy()
                pixels[20:30, (i * 2) % 50 : (i * 2) % 50 + 10] = (
                    255  # something moves, all the time
                )
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    times, *_ = sampled(path, Sampling("scenes"), False)
    assert times == pytest.approx([1.5, 3 + 25 / 6, 3 + 25 / 2, 3 + 125 / 6, 29.0], abs=0.3)


def naive_needed(index, rank):
    """Packets that frame `rank` may refer to: from the last keyframe in the file that is not shown after it."""
    place = int(index.order[rank])
    keys = [k for k in range(place + 1) if index.is_key[k] and index.pts[k] <= index.pts[place]]
    return {p for p in range(max(keys), place + 1) if index.pts[p] >= index.pts[max(keys)]}


@pytest.mark.parametrize("seed", range(200))
def test_packet_actions_cover_references(seed):
    """Random groups, open and closed: nothing that a wanted frame may refer to is dropped or lies before a new start."""
    rng = np.random.default_rng(seed)
    pts, is_key, time = [], [], 0
    for group in range(int(rng.integers(1, 6))):
        length, lead = int(rng.integers(1, 9)), int(rng.integers(0, 3)) * (group > 0)
        inside = rng.permutation(length - 1) + 1 if length > 1 else np.array([], int)
        pts += [time + lead, *(time + rng.permutation(lead)), *(time + lead + inside)]
        is_key += [True] + [False] * (lead + length - 1)
        time += lead + length
    index = PacketIndex(np.array(pts), np.array(is_key), np.ones(len(pts), bool), Fraction(1, 25))
    ranks = np.flatnonzero(rng.random(len(pts)) < rng.choice([0.1, 0.3, 0.8]))
    if not len(ranks):
        return
    actions = index.packet_actions(ranks)
    for rank in ranks:
        place = int(index.order[rank])
        assert actions[place] & SHOW
        jump = max(p for p in range(place + 1) if actions[p] & JUMP)
        needed = naive_needed(index, rank)
        assert all(actions[p] & (PASS | SHOW) for p in needed)
        assert jump <= min(needed), "the decoder forgot what the frame refers to"
    assert (actions[: int(np.flatnonzero(actions)[0])] == DROP).all()


def test_drops_unneeded_packets():
    """Four closed groups of ten, one frame wanted in the first and the fourth: the two between are dropped."""
    index = PacketIndex(np.arange(40), np.arange(40) % 10 == 0, np.ones(40, bool), Fraction(1, 10))
    actions = index.packet_actions(np.array([2, 33]))
    expected = (
        [JUMP | PASS, PASS, SHOW] + [DROP] * 27 + [JUMP | PASS, PASS, PASS, SHOW] + [DROP] * 6
    )
    assert actions.tolist() == expected


def test_packet_actions_of_open_group():
    """In order of decoding, shown at: 0 3 1 2, then a keyframe at 6 with 4 and 5 that refer to the group before it, then 9 7 8."""
    pts = np.array([0, 3, 1, 2, 6, 4, 5, 9, 7, 8])
    index = PacketIndex(pts, np.isin(pts, (0, 6)), np.ones(10, bool), Fraction(1, 10))
    assert index.packet_actions(np.array([8])).tolist() == [DROP] * 4 + [
        JUMP | PASS,
        DROP,
        DROP,
        PASS,
        PASS,
        SHOW,
    ]
    assert index.packet_actions(np.array([5, 8])).tolist() == [
        JUMP | PASS,
        *[PASS] * 5,
        SHOW,
        PASS,
        PASS,
        SHOW,
    ]


@pytest.mark.parametrize("bframes", [0, 1, 3])
def test_avi_reordered_frames_keep_order(bframes, clip):
    """libav guesses times of reordered frames in AVI, some of them twice or backwards: every frame still has its own."""
    path = clip(name="c.avi", bframes=bframes, fps=25, frames=60)
    for decoder in (Decoder(), Decoder(whole=True)):
        with decoder.open(path) as reader:
            frames = list(reader.sample(at_fps(25)))
        times = np.concatenate([f.timestamps_seconds for f in frames])
        numbers = [clip.number(p) for f in frames for p in f.pixels]
        assert numbers == list(range(60))
        np.testing.assert_allclose(times, np.arange(60) / 25, atol=1e-6)
