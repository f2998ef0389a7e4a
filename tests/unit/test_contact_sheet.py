"""A contact sheet shows every hit in its column, and marks right ones with more than a colour."""

import io

import numpy as np
import pytest
from PIL import Image

from vla.contact_sheet import SheetHit, SheetRow, contact_sheet
from vla.stills import Still, encode_jpeg

RED, BLUE = (200, 30, 30), (30, 30, 200)


def still(color, size=(64, 64)):
    return Still(encode_jpeg(np.full((size[1], size[0], 3), color, np.uint8)), 1.0)


def hit(color, is_right=None, number=1):
    return SheetHit((still(color),) * number, "clip.mp4  1.0 - 2.0 s", is_right)


def pixels_of(*arguments, **options):
    picture = Image.open(io.BytesIO(contact_sheet(*arguments, **options)))
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB")).astype(int)


def columns_with(pixels, color, tolerance=12):
    """First and last column with this colour; None if there is none."""
    near = (np.abs(pixels - color).max(-1) <= tolerance).any(0)
    where = np.flatnonzero(near)
    return (where[0], where[-1]) if len(where) else None


def test_hits_of_each_column_are_side_by_side():
    rows = [SheetRow("a red thing", "thing", ((hit(BLUE, False),), (hit(RED, True),)))]
    pixels = pixels_of("title", "explanation", ("frozen", "trained"), rows)
    left, right = columns_with(pixels, BLUE), columns_with(pixels, RED)
    assert left[1] < right[0]
    # 128 pixels of picture each, whatever the size of the still.
    assert left[1] - left[0] == pytest.approx(127, abs=2)
    assert right[1] - right[0] == pytest.approx(127, abs=2)


def test_right_and_wrong_differ_in_more_than_colour():
    pages = [
        pixels_of("t", "e", ("",), [SheetRow("q", "", ((hit(RED, is_right),),))])
        for is_right in (True, False, None)
    ]
    assert len({page.shape for page in pages}) == 1
    grey = [page.mean(-1) < 160 for page in pages]  # ink or paper
    assert (grey[0] != grey[1]).any() and (grey[0] != grey[2]).any()


def test_every_search_has_a_row_and_nothing_overflows():
    rows = [
        SheetRow(
            "a query that is much too long for its row " * 20,
            "note",
            ((hit(RED, True, 3),) * 2, ()),
        )
        for _ in range(4)
    ]
    tall = pixels_of("title " * 100, "words " * 300, ("frozen", "trained"), rows)
    short = pixels_of("title " * 100, "words " * 300, ("frozen", "trained"), rows[:1])
    assert tall.shape[1] == short.shape[1] and tall.shape[0] > short.shape[0] + 3 * 128
    margin = 20
    for strip in (tall[:, :margin], tall[:, -margin:], tall[-margin:]):
        assert (strip == 255).all()


def test_pictures_keep_their_aspect_ratio():
    wide = SheetHit((still(RED, (128, 32)),), "wide", None)
    pixels = pixels_of("t", "e", ("",), [SheetRow("q", "", ((wide,),))])
    near = np.abs(pixels - RED).max(-1) <= 12
    assert np.flatnonzero(near.any(0)).size == pytest.approx(128, abs=2)
    assert np.flatnonzero(near.any(1)).size == pytest.approx(32, abs=2)


def test_an_empty_sheet_is_a_page():
    assert pixels_of("nothing", "", ("",), []).shape[2] == 3
