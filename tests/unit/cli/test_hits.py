"""The table of hits."""

import pytest

from vla.retrieval.hits import Hit
from vla_cli.hits import print_hits


def hit(rank, video, confidence=None):
    return Hit(rank, 1 - rank / 10, video, video, 0.0, 2.0, 1.0, "a dog", confidence=confidence)


def test_further_moments_of_a_video_are_below_its_first(capsys):
    print_hits([hit(1, "a"), hit(2, "b"), hit(3, "a"), hit(4, "c"), hit(5, "b"), hit(6, "a")], "")
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list("136254")
    videos = [line[lines[0].index(" a ") :].partition("0:00")[0].rstrip() for line in lines]
    assert videos == [" a", "   a", "   a", " b", "   b", " c"]


@pytest.mark.parametrize(
    ("confidences", "is_explained"), [((0.9, 0.9, 0.1), False), ((0.5, 0.9), True)]
)
def test_confidences_that_do_not_follow_the_ranks_are_explained(capsys, confidences, is_explained):
    """Also where the grouping changes the order of the lines."""
    videos = ("a", "b", "a")
    print_hits(
        [hit(i, v, c) for i, (v, c) in enumerate(zip(videos, confidences, strict=False), 1)], ""
    )
    assert ("matches least" in capsys.readouterr().err) == is_explained
