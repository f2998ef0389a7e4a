"""Counts of what was left out."""

import pytest

from vla.omissions import Omissions


def test_an_omission_is_counted_named_and_worded():
    left = Omissions()
    assert not left and left.summary() == "" and left.to_json() == []
    left.add("other-suffix", ".txt")
    assert left.summary() == "1 file with another suffix (.txt)"
    left.add("other-suffix", ".jpg", 1_233)
    left.add("other-suffix", ".txt")
    left.add("unreadable-folder")
    assert (
        left.summary()
        == "1,235 files with other suffixes (.txt, .jpg), 1 folder that cannot be read"
    )
    assert left.to_json() == [
        {"reason": "other-suffix", "count": 1235, "examples": [".txt", ".jpg"]},
        {"reason": "unreadable-folder", "count": 1, "examples": []},
    ]


def test_examples_are_limited_and_zero_counts_ignored():
    left = Omissions()
    for k in range(9):
        left.add("row", f"line {k}")
    left.add("cue", "x", 0)
    assert left.summary() == "9 rows not kept (line 0, line 1, line 2, …)"


def test_merged_counts_add_up():
    left, other = Omissions(), Omissions()
    left.add("row", "line 1", 2)
    other.add("row", "line 9", 3)
    other.add("gap", "a.mp4")
    left.merge(other)
    assert left.counts == {"row": 5, "gap": 1} and left.examples["row"] == ["line 1", "line 9"]
    assert other.counts == {"row": 3, "gap": 1}


def test_an_unknown_reason_is_an_error():
    with pytest.raises(KeyError):
        Omissions().add("because")
