"""Odd, changing, unreadable and hostile videos, and encoders that fail: each costs at most itself, and says why."""

import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import vla
from vla.cache.store import active_cache
from vla.decoders import registry
from vla.encoders.toy import Encoder
from vla.errors import ResourceError
from vla.sampling import at_fps
from vla.storage.workspace import Workspace

TOY = vla.EncoderChoice(encoder="toy", sampling="fps=5")


def extract(root, *paths, **options):
    report = vla.extract([*paths] or [root], workspace=root, choice=TOY, workers=1, **options)
    return {os.path.basename(r.video_id): r for r in report.receipts}


# ---------------------------------------------------------------- pixels


def rgb_of(yuv, full_range, bt709):
    """`(3,)` float64 in 0..255 of one 8-bit YUV colour, from the standards' own numbers."""
    y, u, v = (float(x) for x in yuv)
    if full_range:
        luma, cb, cr = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        luma, cb, cr = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    kr, kb = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    kg = 1 - kr - kb
    r, b = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    return np.clip(np.array([r, (luma - kr * r - kb * b) / kg, b]) * 255, 0, 255)


COLOURS = {
    "red": (81, 90, 240),
    "green": (145, 54, 34),
    "blue": (41, 240, 110),
    "grey": (126, 128, 128),
    "skin": (160, 110, 150),
}


@pytest.mark.parametrize("bt709", [False, True], ids=["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("ten_bits", [False, True], ids=["8 bit", "10 bit"])
def test_colours_are_those_of_the_standard(tmp_path, bt709, full_range, ten_bits):
    """FFV1 keeps the YUV values; what they mean is written in the stream."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv444p10le" if ten_bits else "yuv444p"
        stream.codec_context.color_range = 2 if full_range else 1
        stream.codec_context.colorspace = 1 if bt709 else 6
        for i, yuv in enumerate(COLOURS.values()):
            # FFmpeg pads the rows of a plane: a width of 32 needs none.
            frame = av.VideoFrame(32, 32, stream.pix_fmt)
            for plane, level in zip(frame.planes, yuv, strict=True):
                plane.update(
                    np.full(
                        (32, 32), level * 4 if ten_bits else level, "<u2" if ten_bits else "u1"
                    ).tobytes()
                )
            frame.pts, frame.time_base = i, Fraction(1, 5)
            frame.color_range, frame.colorspace = (2 if full_range else 1), (1 if bt709 else 5)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with registry.build("pyav").open(path) as reader:
        result = next(reader.sample(at_fps(5))).pixels
    assert len(result) == len(COLOURS)
    for pixels, (name, yuv) in zip(result, COLOURS.items(), strict=True):
        assert np.abs(pixels.astype(float) - rgb_of(yuv, full_range, bt709)).max() <= 3, name


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"),
    [("ffv1", "mkv", "gray"), ("ffv1", "mkv", "gbrp16le"), ("ffv1", "mkv", "yuva420p"), ("ffv1", "mkv", "bgra"),
     ("gif", "gif", "rgb8"), ("png", "mov", "rgb24"), ("ffv1", "mkv", "yuv410p")],
)  # fmt: skip
def test_every_pixel_format_becomes_rgb(tmp_path, codec, suffix, pix_fmt):
    """A bright left half and a dark right half stay that; transparency is ignored."""
    path = tmp_path / f"a.{suffix}"
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, :24], picture[:, 24:] = 230, 20
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pix_fmt
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, 5)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with registry.build("pyav").open(path) as reader:
        pixels = np.concatenate([f.pixels for f in reader.sample(at_fps(5))])
    assert pixels.shape == (6, 32, 48, 3)
    # Of few colours a mixture is made.
    assert np.abs(pixels[:, 4:-4, 4:20].mean((0, 1, 2)) - 230).max() <= 14
    assert np.abs(pixels[:, 4:-4, 28:44].mean((0, 1, 2)) - 20).max() <= 14


@pytest.mark.parametrize(("width", "height"), [(1, 1), (33, 17), (2, 200), (3000, 2)])
def test_unusual_sizes(tmp_path, clip, width, height):
    pixels = np.full((6, height, width, 3), 200, np.uint8)
    clip("many/a.mkv", pixels=pixels, codec="ffv1", fps=5)
    result = extract(tmp_path, tmp_path / "many")["a.mkv"]
    assert (result.status, result.frames) == ("ok", 6)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (33, 17), (2, 200), (3000, 2)])
def test_a_real_encoder_takes_them_too(width, height):
    from vla.encoders.open_clip import Encoder as OpenClip

    encoder = OpenClip("demo", device="cpu")
    prepared = encoder.prepare(np.full((2, height, width, 3), 200, np.uint8))
    assert prepared.shape == (2, 3, 64, 64) and (prepared == 200).all()
    assert np.isfinite(encoder.encode_frames(prepared)).all()


def test_one_frame_and_the_shortest_of_moments(tmp_path, clip):
    clip("many/one.mp4", frames=1, fps=5)
    result = extract(tmp_path, tmp_path / "many")["one.mp4"]
    assert (result.status, result.frames, result.duration_seconds) == ("ok", 1, pytest.approx(0.2))
    vla.index(workspace=tmp_path)
    hits = vla.open_workspace(tmp_path).search("anything", k=3)
    assert [(h.start, h.end) for h in hits] == [(0.0, pytest.approx(0.2))]


# ---------------------------------------------------------------- files


def test_growing_file_is_not_committed(tmp_path, clip, monkeypatch):
    path = clip("many/a.mp4", frames=20, fps=5)
    clip("many/b.mp4", frames=20, fps=5)
    real, once = Encoder.prepare, threading.Event()

    def prepare(self, pixels):
        if not once.is_set():
            once.set()
            with path.open("ab") as file:
                file.write(b"more")
        return real(self, pixels)

    monkeypatch.setattr(Encoder, "prepare", prepare)
    result = extract(tmp_path, tmp_path / "many")
    assert (
        result["a.mp4"].status == "skipped"
        and "changed while it was read" in result["a.mp4"].reason
    )
    assert result["b.mp4"].status == "ok"
    again = extract(tmp_path, tmp_path / "many")
    assert again["a.mp4"].status == "ok", (
        "a file that has come to rest is extracted without being asked again"
    )


def test_a_file_that_vanishes_after_it_was_listed(tmp_path, clip, monkeypatch):
    path = clip("many/a.mp4", frames=10, fps=5)
    clip("many/b.mp4", frames=10, fps=5)
    import vla.workflows.extract as stage

    real = stage.make_plan

    def make_plan(*arguments, **options):
        plan = real(*arguments, **options)
        path.unlink()
        return plan

    monkeypatch.setattr(stage, "make_plan", make_plan)
    result = extract(tmp_path, tmp_path / "many")
    assert result["a.mp4"].status == "failed" and "No such file" in result["a.mp4"].reason
    assert result["b.mp4"].status == "ok"


def test_links_that_go_round_and_folders_named_like_videos(tmp_path, clip):
    clip("many/a.mp4", frames=10, fps=5)
    (tmp_path / "many" / "round.mp4").symlink_to("round.mp4")
    (tmp_path / "many" / "nowhere.mp4").symlink_to("gone.mp4")
    (tmp_path / "many" / "folder.mp4").mkdir()
    (tmp_path / "many" / "up").symlink_to(tmp_path / "many", target_is_directory=True)
    result = extract(tmp_path, tmp_path / "many")
    assert result["a.mp4"].status == "ok"
    assert all(
        r.status in ("skipped", "failed") and r.reason for n, r in result.items() if n != "a.mp4"
    )
    assert not any("Traceback" in r.reason for r in result.values())


def test_two_names_of_one_file(tmp_path, clip):
    path = clip("many/a.mp4", frames=10, fps=5)
    os.link(path, path.with_name("hard.mp4"))
    path.with_name("soft.mp4").symlink_to("a.mp4")
    result = extract(tmp_path, tmp_path / "many")
    assert {r.status for r in result.values()} == {"ok"}
    cache = active_cache(Workspace.open(tmp_path).caches)
    first, *others = (cache.frames(v).values for v in cache.video_ids())
    assert len(others) == 2
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="named: root may read everything"
)
def test_a_file_that_may_not_be_read(tmp_path, clip):
    clip("many/a.mp4", frames=10, fps=5).chmod(0)
    assert "ermission" in extract(tmp_path, tmp_path / "many")["a.mp4"].reason


def test_a_file_that_the_system_refuses_to_open(tmp_path, clip, monkeypatch):
    """What `chmod` does to anyone but root."""
    path = clip("many/a.mp4", frames=10, fps=5)
    real = os.open

    def refuse(name, *arguments, **options):
        if os.fspath(name).endswith("a.mp4"):
            raise PermissionError(13, "Permission denied", os.fspath(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: refuse(self) if self == path else open(self, *a, **k)
    )
    result = extract(tmp_path, tmp_path / "many", decoder="pyav")["a.mp4"]
    assert result.status in ("failed", "skipped") and "ermission" in result.reason


def test_unwritable_cache_is_reported_before_the_encoder_is_loaded(tmp_path, clip, monkeypatch):
    clip("many/a.mp4", frames=10, fps=5)
    loaded = []
    monkeypatch.setattr(Encoder, "__init__", lambda self, *a, **k: loaded.append(1))
    real = os.mkdir

    def refuse(name, *arguments, **options):
        if ".vla" in os.fspath(name):
            raise PermissionError(13, "Permission denied", os.fspath(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(ResourceError, match="Permission denied"):
        extract(tmp_path, tmp_path / "many")
    assert not loaded


def test_gaps_are_reported_and_counted(tmp_path, clip):
    path = clip(
        "many/a.mkv", pixels=np.random.default_rng(0).integers(0, 255, (100, 64, 64, 3), np.uint8)
    )
    content = bytearray(path.read_bytes())
    middle = slice(len(content) * 4 // 10, len(content) * 7 // 10)
    content[middle] = bytes(middle.stop - middle.start)
    path.write_bytes(content)
    clip("many/b.mkv", frames=20)
    report = vla.extract([tmp_path / "many"], workspace=tmp_path, choice=TOY, workers=1)
    a, b = report.receipts
    assert (
        a.status == "partial"
        and "1 gap, " in a.reason
        and " s without frames" in a.reason
        and 0.5 < a.coverage < 0.9
    )
    assert (b.status, b.reason) == ("ok", "")
    assert report.omissions.counts["gap"] == 1 and report.omissions.examples["gap"] == [
        "many/a.mkv"
    ]


# ---------------------------------------------------------------- features


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e6])
def test_rejects_non_finite_features(tmp_path, clip, monkeypatch, bad):
    clip("many/a.mp4", frames=10, fps=5)
    clip("many/b.mp4", frames=11, fps=5)
    real = Encoder.encode_frames

    def encode(self, prepared):
        values = real(self, prepared)
        if len(prepared) == 10:
            values[3, 5] = bad
        return values

    monkeypatch.setattr(Encoder, "encode_frames", encode)
    result = extract(tmp_path, tmp_path / "many")
    assert result["a.mp4"].status == "failed" and result["a.mp4"].reason
    assert result["b.mp4"].status == "ok"
    vla.index(workspace=tmp_path)
    assert {h.video_id for h in vla.open_workspace(tmp_path).search("x", k=50)} == {"many/b.mp4"}


def test_all_zero_features_are_never_divided_by(tmp_path, clip, monkeypatch):
    clip("many/a.mp4", frames=10, fps=5)
    monkeypatch.setattr(
        Encoder, "encode_frames", lambda self, p: np.zeros((len(p), self.identity.dim), np.float32)
    )
    assert extract(tmp_path, tmp_path / "many")["a.mp4"].status == "ok"
    vla.index(workspace=tmp_path)
    assert all(np.isfinite(h.score) for h in vla.open_workspace(tmp_path).search("x", k=50))


# ---------------------------------------------------------------- time


def test_no_decision_depends_on_the_clock(tmp_path, clip, monkeypatch):
    for i, time in enumerate((0, 1, 4_000_000_000)):
        os.utime(clip(f"many/{i}.mp4", frames=10 + i, fps=5), (time, time))
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert {r.status for r in extract(tmp_path, tmp_path / "many").values()} == {"ok"}
    report = vla.extract([tmp_path / "many"], workspace=tmp_path, choice=TOY, workers=1)
    assert report.extracted == 0
