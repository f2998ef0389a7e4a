"""The rule by which frames are chosen, as text and back."""

import pytest

from vla.errors import UsageError
from vla.sampling import Sampling


@pytest.mark.parametrize(
    "text",
    ["fps=2", "fps=0.5", "fps=29.97", "fps=0.333333333333", "frames=16", "keyframes", "scenes"],
)
def test_round_trip(text):
    assert str(Sampling.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fps=0", "above 0"), ("fps", "above 0"), ("fps=-1", "above 0"), ("fps=241", "at most 240"), ("fps=nan", "above 0"),
        ("fps=inf", "at most 240"), ("fps=two", "'two' is not a number"), ("frames=1.5", "whole number"),
        ("frames=0", "above 0"), ("keyframes=3", "takes no number"), ("every", "sampling must be fps=N"), ("", "sampling must be fps=N"),
    ],
)  # fmt: skip
def test_rejects_invalid_rules(text, says):
    with pytest.raises(UsageError, match=says):
        Sampling.parse(text)
