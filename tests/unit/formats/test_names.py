"""File names of videos are safe on all systems, unique, and kept if possible."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.formats._names import file_names

RESERVED = ["con", "prn", "aux", "nul", "com1", "lpt9"]
ODD = st.one_of(
    st.text(min_size=1, max_size=200), st.binary(min_size=1, max_size=50).map(os.fsdecode), st.text("aA./\\-_", min_size=1, max_size=6),
    st.sampled_from([*RESERVED, "CON.mp4", "..", "../../x", "/etc/passwd", ".", "-rf", "a b", "a/b", "a_b", "x" * 300]),
)  # fmt: skip


@given(st.lists(ODD, max_size=20, unique=True), st.booleans())
@settings(deadline=None, max_examples=300)
def test_file_names_are_safe_and_unique(video_ids, dots):
    found = file_names(video_ids, dots=dots)
    assert set(found) == set(video_ids)
    assert len({n.casefold() for n in found.values()}) == len(video_ids)
    for name in found.values():
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,160}", name)
        assert Path(name).name == name and name not in (".", "..")
        assert not name.startswith((".", "-")) and not name.endswith(".")
        assert dots or "." not in name
        assert name.split(".")[0].casefold() not in RESERVED
    assert file_names(reversed(video_ids), dots=dots) == found


@pytest.mark.parametrize(
    ("video_ids", "wanted"),
    [
        (["v_GGSY1Qvo990", "clip.1"], ["v_GGSY1Qvo990", "clip.1"]),
        (["a.mp4"], ["a.mp4"]),
        (["clips/a.mp4"], ["clips_a.mp4"]),
        (
            ["clips/a", "clips_a"],
            ["clips_a-19c6eab7", "clips_a"],
        ),  # who is called so keeps the name
        (["con"], ["_con"]),
        (["../../up"], ["_.._up"]),
        (["-x"], ["x"]),
        (["..."], ["video"]),
    ],
)
def test_file_names_by_hand(video_ids, wanted):
    found = file_names(video_ids)
    assert [re.sub(r"-[0-9a-f]{8}$", "-19c6eab7", found[v]) for v in video_ids] == wanted


def test_file_names_differ_beyond_case():
    found = file_names(["AbC", "aBc", "abc"])
    assert len({n.casefold() for n in found.values()}) == 3
    assert found["AbC"] == "AbC"
