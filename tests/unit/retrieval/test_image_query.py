"""Search by a picture and by a moment: what a loop finds with that vector; files that are no pictures are refused."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from unit.retrieval.test_searcher import ENCODER, compared, filled, naive, same, searcher, unit
from vla.errors import MissingError, UsageError
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval import image_query
from vla.retrieval.filters import VideoFilter
from vla.retrieval.image_query import load_image

LENGTHS = [9, 40, 1, 25, 120, 60]


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, 24, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize(("k", "per_video"), [(1, 1), (8, 2), (500, 3)])
def test_the_hits_of_a_picture_are_those_of_a_loop(tmp_path, k, per_video):
    cache = filled(tmp_path / "c", LENGTHS)
    find = compared(searcher(cache, tmp_path))
    vector = unit(ENCODER.encode_frames(ENCODER.prepare(picture()))[0].astype(np.float16))
    hits = find.search_image(picture(), "x.png", k, per_video)
    # without the bias, which was measured with texts
    same(hits, naive(cache, "", k, per_video, vector=vector))
    assert {(h.query, h.confidence) for h in hits} == {("x.png", None)}


def test_a_head_that_learned_from_texts_is_not_asked(tmp_path, monkeypatch):
    cache = filled(tmp_path / "c", LENGTHS)
    model = AlignmentModel(ModelConfig(12, heads={"moments": {"width": 8, "levels": 4}})).eval()
    wanted = searcher(cache, tmp_path).search_image(picture(), "x.png")
    monkeypatch.setattr("vla.retrieval.moments._run_head", lambda *_: pytest.fail("it was asked"))
    assert searcher(cache, tmp_path, model=model).search_image(picture(), "x.png") == wanted


@pytest.mark.parametrize(
    ("video", "seconds"), [("v/4.mp4", 31.7), ("v/4.mp4", 0.0), ("v/0.mp4", 4.5), ("v/2.mp4", 0.2)]
)
def test_the_like_of_a_moment_is_anything_but_itself(tmp_path, video, seconds):
    cache = filled(tmp_path / "c", LENGTHS)
    cache.add_video(
        dataclasses.replace(cache.frames("v/4.mp4"), video_id="w/copy.mp4"),
        dataclasses.replace(cache.receipts["v/4.mp4"], video_id="w/copy.mp4"),
    )
    find = compared(searcher(cache, tmp_path))
    features = cache.frames(video)
    on_screen = max(t for t in features.timestamps_seconds if t <= seconds)
    vector = unit(features.values[list(features.timestamps_seconds).index(on_screen)].astype(np.float64))
    for k, per_video in ((1, 1), (4, 2), (500, 50)):
        wanted = []
        for row in naive_without_copies(cache, vector, per_video + 8):
            is_itself = row[1] == video and row[2] <= on_screen < row[3]
            if not is_itself and sum(w[1] == row[1] for w in wanted) < per_video:
                wanted.append(row)
        hits = find.search_like(video, seconds, k, per_video)
        same(hits, wanted[:k])
        assert [h.rank for h in hits] == list(range(1, len(hits) + 1)) and len(hits) == min(k, len(wanted))
        assert {h.query for h in hits} <= {f"{video}@{seconds:g}"}
    assert {h.video_id for h in find.search_like(video, seconds, 5, filters=VideoFilter(include=("v/1.mp4",)))} == {
        "v/1.mp4"
    }


def naive_without_copies(cache, vector, per_video):
    return [row for row in naive(cache, "", 10_000, per_video, vector=vector) if row[1] != "w/copy.mp4"]


def test_a_moment_is_one_of_a_video_that_is_there(tmp_path):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path)
    for seconds in (-0.1, 60.1, float("nan")):
        with pytest.raises(UsageError, match=r"60.0 s long"):
            find.search_like("v/4.mp4", seconds)
    with pytest.raises(MissingError, match="never extracted"):
        find.search_like("v/nope.mp4", 1)
    for k, per_video in ((0, 1), (1, 0)):
        with pytest.raises(UsageError, match="at least 1"):
            find.search_like("v/4.mp4", 1, k, per_video)
        with pytest.raises(UsageError, match="at least 1"):
            find.search_image(picture(), "x.png", k, per_video)


def test_imported_features_know_no_pictures(tmp_path):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path)
    blind = dataclasses.replace(find, encoder=type("Texts", (), {"encode_text": None})())
    with pytest.raises(MissingError, match="ask in words"):
        blind.search_image(picture(), "x.png")


def test_pictures_of_all_kinds_are_read_upright(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = (255, 0, 0)
    whole = Image.fromarray(pixels)
    for name, made in (
        ("a.png", whole), ("alpha.png", whole.convert("RGBA")), ("palette.gif", whole.convert("P")), ("a.webp", whole),
        ("a.bmp", whole),
    ):  # fmt: skip
        made.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        found = load_image(tmp_path / name)
        assert found.shape == (1, 20, 30, 3) and found.dtype == np.uint8 and found.flags.writeable
        assert np.array_equal(found[0], pixels), name
    Image.fromarray(pixels[..., 0]).save(tmp_path / "gray.png")
    assert np.array_equal(load_image(tmp_path / "gray.png")[0], pixels[..., :1].repeat(3, -1))
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned clockwise
    whole.save(tmp_path / "turned.png", exif=tags)
    assert np.array_equal(load_image(tmp_path / "turned.png")[0], np.rot90(pixels, -1))


def test_what_is_no_picture_is_refused(tmp_path, monkeypatch):
    Image.fromarray(picture()[0]).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    for name, content in (
        ("cut.png", data[: len(data) // 2]),
        ("empty.png", b""),
        ("text.png", b"hello"),
        ("wild.png", data[:8] + b"\xff" * 99),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="no picture that can be read"):
            load_image(tmp_path / name)
    with pytest.raises(UsageError, match="there is no picture"):
        load_image(tmp_path / "nothing.png")
    with pytest.raises(UsageError, match="no picture"):
        load_image(tmp_path)
    monkeypatch.setattr(image_query, "_MOST_PIXELS", 500)
    with pytest.raises(UsageError, match="32 x 24 pixels, more than 500"):
        load_image(tmp_path / "whole.png")


def test_grey_of_16_bits_is_scaled(tmp_path):
    """Also dark pictures keep to the range of the file, and floats to theirs."""
    values = np.linspace(0, 65535, 600).reshape(20, 30)
    for name, made in (
        ("a.png", values.astype(np.uint16)),
        ("a.tiff", values.astype(np.uint16)),
        ("dark.png", (values / 300).astype(np.uint16)),
    ):
        Image.fromarray(made).save(tmp_path / name)
        assert np.abs(load_image(tmp_path / name)[0, ..., 0] - made / 257.0).max() <= 0.51, name
    Image.fromarray((values / 65535).astype(np.float32)).save(tmp_path / "float.tiff")
    assert np.abs(load_image(tmp_path / "float.tiff")[0, ..., 0] - values / 257.0).max() <= 0.51


def test_other_kinds_of_pictures_are_read(tmp_path):
    whole = Image.fromarray(np.full((20, 30, 3), (204, 51, 0), np.uint8))
    clear = whole.convert("P")
    clear.info["transparency"] = 0
    clear.save(tmp_path / "clear.png")
    whole.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    whole.convert("LA").save(tmp_path / "la.png")
    whole.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    for name in ("clear.png", "cmyk.jpg", "moving.gif"):
        assert np.abs(load_image(tmp_path / name)[0].astype(int) - (204, 51, 0)).max() <= 30, name
    assert load_image(tmp_path / "la.png").shape == (1, 20, 30, 3)


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg"])
@pytest.mark.parametrize(
    "content",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", b"%PDF-1.4\n", b"\xd7\xcd\xc6\x9a" + bytes(80)],
    ids=["PostScript", "PDF", "WMF"],
)  # fmt: skip
def test_formats_that_run_programs_are_refused(name, content, tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match="no picture that can be read"):
        load_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named: no FIFOs here")
def test_a_pipe_or_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", type(tmp_path)(os.devnull)):
        with pytest.raises(UsageError, match="not a regular file"):
            load_image(path)


def test_copies_are_searched_and_named_as_they_are_asked_for(tmp_path):
    """The like of a moment in a copy is that of the first; a filter for the copy's folder names the copy, and it alone."""
    cache = filled(tmp_path / "c", LENGTHS)
    cache.add_video(
        dataclasses.replace(cache.frames("v/4.mp4"), video_id="w/copy.mp4"),
        dataclasses.replace(cache.receipts["v/4.mp4"], video_id="w/copy.mp4"),
    )
    find = searcher(cache, tmp_path)
    first, copy = (find.search_like(name, 31.7, 500, 50) for name in ("v/4.mp4", "w/copy.mp4"))
    assert [dataclasses.replace(h, query="") for h in copy] == [dataclasses.replace(h, query="") for h in first]
    whole = [h for h in find.search("a red dog", 500, 50) if h.video_id == "v/4.mp4"]
    some = find.search("a red dog", 500, 50, filters=VideoFilter(include=("w",)))
    assert {(h.video_id, h.duplicates) for h in some} == {("w/copy.mp4", ())}
    assert [(h.score, h.start) for h in some] == [(h.score, h.start) for h in whole]
