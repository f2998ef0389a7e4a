"""Stills are the frames that a player shows, and never raise for a video that cannot be shown."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from vla import stills as module
from vla.decoders.pyav import Decoder
from vla.errors import DecodeError
from vla.stills import shorten_text, stills, wrap_text

RATE, SIZE = 10, (480, 270)


def level(number):
    """The grey of a frame: 20 levels apart, which no compression confuses."""
    return 20 + 20 * number


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Ten grey frames in a second, with a single keyframe: the nearest keyframe is always the first."""
    path = tmp_path_factory.mktemp("stills") / "ten.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "100", "crf": "10"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(10):
            pixels = np.full((SIZE[1], SIZE[0], 3), level(number), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def picture(still):
    return Image.open(io.BytesIO(still.jpeg))


def number_in(still):
    return round((np.asarray(picture(still).convert("L")).mean() - 20) / 20)


def test_frames_are_exact_and_in_the_order_of_the_times(video):
    pictures = stills(video, [0.95, 0.31, 0.0, 0.31], decoder=Decoder())
    assert [number_in(s) for s in pictures] == [9, 3, 0, 3]
    assert [s.seconds for s in pictures] == pytest.approx([0.9, 0.3, 0.0, 0.3])
    assert not any(s.problem for s in pictures)


def test_a_wide_frame_is_reduced_where_it_is_decoded_and_a_small_one_is_not_enlarged(video):
    with Decoder().open(video) as reader:
        frames = reader.frames_at(np.array([0.0, 0.5]), 160)
        assert frames.pixels.shape == (2, 90, 160, 3)
        assert reader.frames_at(np.array([0.5]), 4000).pixels.shape == (1, SIZE[1], SIZE[0], 3)
    assert picture(stills(video, [0.5], 160, Decoder())[0]).size == (160, 90)
    assert picture(stills(video, [0.5], 4000, Decoder())[0]).size == SIZE


def test_the_default_decoder_is_a_child_process_with_the_same_frames(video):
    in_child, here = stills(video, [0.4], 160), stills(video, [0.4], 160, Decoder())
    assert in_child == here


def test_a_time_after_the_end_costs_only_its_own_still(video):
    first, late, last = stills(video, [0.2, 40.0, 0.9], 200, Decoder())
    assert (number_in(first), number_in(last)) == (2, 9)
    assert "no frame is on screen at 40.000 s" in late.problem and late.seconds == 40.0
    assert picture(late).size == (200, 112)


def test_a_video_that_is_gone_or_broken_has_placeholders_with_the_reason(tmp_path):
    (gone,) = stills(tmp_path / "gone.mp4", [1.0])
    assert gone.problem == "the file is gone" and picture(gone).format == "JPEG"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    pictures = stills(broken, [0.0, 1.0], decoder=Decoder())
    assert len(pictures) == 2 and all(s.problem and "broken.mp4" not in s.problem for s in pictures)


def test_a_decoder_that_crashes_costs_the_stills_of_its_video(video):
    class Crashing:
        def open(self, path):
            raise DecodeError(f"{path.name}: the decoder crashed", "crashed")

    (still,) = stills(video, [0.5], decoder=Crashing())
    assert still.problem == "the decoder crashed"


def test_text_is_wrapped_and_shortened_to_a_width_in_pixels():
    font = module.load_font(14)
    lines = wrap_text("a hit is right where the thing is on screen, " * 3, font, 120)
    assert len(lines) > 3 and all(font.getlength(line) <= 120 for line in lines)
    assert " ".join(lines).split() == ("a hit is right where the thing is on screen, " * 3).split()
    short = shorten_text("x" * 400, font, 120)
    assert font.getlength(short) <= 120 and short.endswith("…") and len(short) > 5
    assert wrap_text("", font, 50) == []
