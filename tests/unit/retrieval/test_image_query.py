"""Image queries and queries by moment match loops; files that are not images are refused."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from unit.retrieval.test_searcher import (
    ENCODER,
    assert_same,
    filled,
    naive,
    searcher,
    unit,
    with_calibration,
)
from vla.errors import MissingError, UsageError
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval import image_query
from vla.retrieval.filters import VideoFilter
from vla.retrieval.image_query import load_image

LENGTHS = [9, 40, 1, 25, 120, 60]


def random_image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, 24, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize(("k", "per_video"), [(1, 1), (8, 2), (500, None)])
def test_image_search_matches_brute_force(tmp_path, k, per_video):
    cache = filled(tmp_path / "c", LENGTHS)
    find = with_calibration(searcher(cache, tmp_path))
    vector = unit(ENCODER.encode_frames(ENCODER.prepare(random_image()))[0].astype(np.float16))
    hits = find.search_image(random_image(), "x.png", k, per_video)
    # Nothing is centered, because the calibration is one of texts.
    assert_same(hits, naive(cache, "", k, per_video, vector=vector))
    assert {(h.query, h.confidence) for h in hits} == {("x.png", None)}


def test_image_search_does_not_run_the_head(tmp_path, monkeypatch):
    cache = filled(tmp_path / "c", LENGTHS)
    model = AlignmentModel(ModelConfig(12, heads={"moments": {"width": 8, "levels": 4}})).eval()
    expected = searcher(cache, tmp_path).search_image(random_image(), "x.png")
    monkeypatch.setattr(
        "vla.retrieval.moments._run_head", lambda *_: pytest.fail("the head was run")
    )
    assert searcher(cache, tmp_path, model=model).search_image(random_image(), "x.png") == expected


@pytest.mark.parametrize(
    ("video", "seconds"), [("v/4.mp4", 31.7), ("v/4.mp4", 0.0), ("v/0.mp4", 4.5), ("v/2.mp4", 0.2)]
)
def test_similar_moments_exclude_the_moment_itself(tmp_path, video, seconds):
    cache = filled(tmp_path / "c", LENGTHS)
    cache.add_video(
        dataclasses.replace(cache.frames("v/4.mp4"), video_id="w/copy.mp4"),
        dataclasses.replace(cache.receipts["v/4.mp4"], video_id="w/copy.mp4"),
    )
    find = with_calibration(searcher(cache, tmp_path))
    features = cache.frames(video)
    frame_time = max(t for t in features.timestamps_seconds if t <= seconds)
    vector = unit(
        features.values[list(features.timestamps_seconds).index(frame_time)].astype(np.float64)
    )
    for k, per_video in ((1, 1), (4, 2), (500, 50)):
        expected = []
        for row in naive_without_copies(cache, vector, per_video + 8):
            is_same = row[1] == video and row[2] <= frame_time < row[3]
            if not is_same and sum(w[1] == row[1] for w in expected) < per_video:
                expected.append(row)
        hits = find.search_like(video, seconds, k, per_video)
        assert_same(hits, expected[:k])
        assert [h.rank for h in hits] == list(range(1, len(hits) + 1)) and len(hits) == min(
            k, len(expected)
        )
        assert {h.query for h in hits} <= {f"{video}@{seconds:g}"}
    assert {
        h.video_id
        for h in find.search_like(video, seconds, 5, filters=VideoFilter(include=("v/1.mp4",)))
    } == {"v/1.mp4"}


def naive_without_copies(cache, vector, per_video):
    return [
        row for row in naive(cache, "", 10_000, per_video, vector=vector) if row[1] != "w/copy.mp4"
    ]


def test_rejects_invalid_moments(tmp_path):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path)
    for seconds in (-0.1, 60.1, float("nan")):
        with pytest.raises(UsageError, match=r"duration of 60.0 s"):
            find.search_like("v/4.mp4", seconds)
    with pytest.raises(MissingError, match="never extracted"):
        find.search_like("v/nope.mp4", 1)
    for k, per_video in ((0, 1), (1, 0)):
        with pytest.raises(UsageError, match="at least 1"):
            find.search_like("v/4.mp4", 1, k, per_video)
        with pytest.raises(UsageError, match="at least 1"):
            find.search_image(random_image(), "x.png", k, per_video)


def test_imported_features_have_no_image_encoder(tmp_path):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path)
    blind = dataclasses.replace(find, encoder=type("Texts", (), {"encode_text": None})())
    with pytest.raises(MissingError, match="search by text instead"):
        blind.search_image(random_image(), "x.png")


def test_reads_images_upright(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = (255, 0, 0)
    image = Image.fromarray(pixels)
    for name, converted in (
        ("a.png", image), ("alpha.png", image.convert("RGBA")), ("palette.gif", image.convert("P")), ("a.webp", image),
        ("a.bmp", image),
    ):  # fmt: skip
        converted.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        loaded = load_image(tmp_path / name)
        assert (
            loaded.shape == (1, 20, 30, 3) and loaded.dtype == np.uint8 and loaded.flags.writeable
        )
        assert np.array_equal(loaded[0], pixels), name
    Image.fromarray(pixels[..., 0]).save(tmp_path / "gray.png")
    assert np.array_equal(load_image(tmp_path / "gray.png")[0], pixels[..., :1].repeat(3, -1))
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "turned.png", exif=tags)
    assert np.array_equal(load_image(tmp_path / "turned.png")[0], np.rot90(pixels, -1))


def test_rejects_files_that_are_not_images(tmp_path, monkeypatch):
    Image.fromarray(random_image()[0]).save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    for name, content in (
        ("cut.png", data[: len(data) // 2]),
        ("empty.png", b""),
        ("text.png", b"hello"),
        ("wild.png", data[:8] + b"\xff" * 99),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="cannot be read"):
            load_image(tmp_path / name)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_image(tmp_path / "nothing.png")
    with pytest.raises(UsageError, match="not a regular file"):
        load_image(tmp_path)
    monkeypatch.setattr(image_query, "_MAX_PIXELS", 500)
    with pytest.raises(UsageError, match="32 x 24 pixels, at most 500"):
        load_image(tmp_path / "image.png")


def test_scales_16_bit_greyscale(tmp_path):
    """By the range of the format, also for dark images; floats by their own range."""
    values = np.linspace(0, 65535, 600).reshape(20, 30)
    for name, converted in (
        ("a.png", values.astype(np.uint16)),
        ("a.tiff", values.astype(np.uint16)),
        ("dark.png", (values / 300).astype(np.uint16)),
    ):
        Image.fromarray(converted).save(tmp_path / name)
        assert np.abs(load_image(tmp_path / name)[0, ..., 0] - converted / 257.0).max() <= 0.51, (
            name
        )
    Image.fromarray((values / 65535).astype(np.float32)).save(tmp_path / "float.tiff")
    assert np.abs(load_image(tmp_path / "float.tiff")[0, ..., 0] - values / 257.0).max() <= 0.51


def test_reads_other_modes(tmp_path):
    image = Image.fromarray(np.full((20, 30, 3), (204, 51, 0), np.uint8))
    clear = image.convert("P")
    clear.info["transparency"] = 0
    clear.save(tmp_path / "clear.png")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    image.convert("LA").save(tmp_path / "la.png")
    image.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    for name in ("clear.png", "cmyk.jpg", "moving.gif"):
        assert np.abs(load_image(tmp_path / name)[0].astype(int) - (204, 51, 0)).max() <= 30, name
    assert load_image(tmp_path / "la.png").shape == (1, 20, 30, 3)


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg"])
@pytest.mark.parametrize(
    "content",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", b"%PDF-1.4\n", b"\xd7\xcd\xc6\x9a" + bytes(80)],
    ids=["PostScript", "PDF", "WMF"],
)  # fmt: skip
def test_rejects_formats_that_run_programs(name, content, tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        load_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named: no FIFOs here")
def test_rejects_pipes_and_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", type(tmp_path)(os.devnull)):
        with pytest.raises(UsageError, match="not a regular file"):
            load_image(path)


def test_duplicates_in_queries_and_filters(tmp_path):
    """A moment of a duplicate stands for that of the first video; a filter for its folder lists the duplicate only."""
    cache = filled(tmp_path / "c", LENGTHS)
    cache.add_video(
        dataclasses.replace(cache.frames("v/4.mp4"), video_id="w/copy.mp4"),
        dataclasses.replace(cache.receipts["v/4.mp4"], video_id="w/copy.mp4"),
    )
    find = searcher(cache, tmp_path)
    first, copy = (find.search_like(name, 31.7, 500, 50) for name in ("v/4.mp4", "w/copy.mp4"))
    assert [dataclasses.replace(h, query="") for h in copy] == [
        dataclasses.replace(h, query="") for h in first
    ]
    image = [h for h in find.search("a red dog", 500, 50) if h.video_id == "v/4.mp4"]
    filtered = find.search("a red dog", 500, 50, filters=VideoFilter(include=("w",)))
    assert {(h.video_id, h.duplicates) for h in filtered} == {("w/copy.mp4", ())}
    assert [(h.score, h.start) for h in filtered] == [(h.score, h.start) for h in image]
