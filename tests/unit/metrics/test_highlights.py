"""Highlight metrics by hand and against loops over the thresholds."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ShapeError, UsageError
from vla.metrics import highlights
from vla.metrics.highlights import (
    MAX_CLIPS,
    clip_count,
    clip_ratings,
    highlight_hits,
    highlight_precisions,
)


def highlight_metrics(scores, ratings, least):
    precisions, hits = (
        highlight_precisions(scores, ratings, least),
        highlight_hits(scores, ratings, least),
    )
    return {"HL-mAP": 100 * precisions.mean(), "HL-Hit1": 100 * hits.mean()}


LEVEL = st.integers(0, 4)


def naive(scores, highlight):
    """The best precision at this or a lower threshold, meant over the thresholds that find a further highlight."""
    steps = []
    for threshold in sorted(set(scores)):
        found = [h for s, h in zip(scores, highlight, strict=True) if s >= threshold]
        above = [h for s, h in zip(scores, highlight, strict=True) if s > threshold]
        if sum(found) > sum(above):
            lower = [
                [h for s, h in zip(scores, highlight, strict=True) if s >= t]
                for t in set(scores)
                if t <= threshold
            ]
            steps.append(max(sum(group) / len(group) for group in lower))
    return sum(steps) / len(steps) if steps else 0.0


def test_by_hand():
    ratings = np.array([[4, 0, 0], [0, 4, 0], [4, 0, 0], [0, 0, 0]])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    # First annotator: 1 at the first clip, 2/3 at the third; second: 1/2; third saw nothing.
    assert highlight_precisions([scores], [ratings], 4)[0] == pytest.approx(
        [(1 + 2 / 3) / 2, 0.5, 0]
    )
    assert highlight_hits([scores], [ratings], 4).tolist() == [1]
    assert highlight_hits([scores * [0, 0, 0, 1]], [ratings], 4).tolist() == [0]
    # With one score for all there is one step, however many highlights.
    assert highlight_precisions([np.zeros(4)], [ratings], 4).tolist() == [[0.5, 0.25, 0]]
    assert highlight_metrics([scores], [ratings], 4) == pytest.approx(
        {"HL-mAP": 100 * (5 / 6 + 1 / 2) / 3, "HL-Hit1": 100}
    )


def test_hit_needs_one_annotator_and_precision_averages_all():
    ratings = np.array([[4, 1, 1], [2, 2, 2]])
    scores = np.array([1.0, 0.0])
    assert highlight_metrics([scores], [ratings], 4) == pytest.approx(
        {"HL-mAP": 100 / 3, "HL-Hit1": 100}
    )
    assert highlight_metrics([scores], [ratings], 2) == pytest.approx(
        {"HL-mAP": 100 * (1 + 0.5 + 0.5) / 3, "HL-Hit1": 100}
    )


def test_scores_are_cut_or_padded_to_clips():
    ratings = np.array([[0], [4]])
    assert highlight_precisions([np.array([-1.0])], [ratings], 4) == 1  # the missing second is 0
    assert highlight_precisions([np.array([0.1, 0.2, 9.0])], [ratings], 4) == 1
    assert highlight_hits([np.array([0.1, 0.2, 9.0])], [ratings], 4) == 0


def test_clip_ratings_by_hand():
    got = clip_ratings(4, [1, 3], [[1, 2, 3], [4, 4, 4]])
    assert got.tolist() == [[0, 0, 0], [1, 2, 3], [0, 0, 0], [4, 4, 4]]


CLIPS = st.lists(
    st.tuples(st.integers(-3, 3), st.lists(LEVEL, min_size=3, max_size=3)), min_size=1, max_size=12
)


@given(st.lists(CLIPS, min_size=1, max_size=4), LEVEL)
@settings(deadline=None, max_examples=60)
def test_matches_naive_loop(queries, least):
    scores = [np.array([c[0] for c in clips], float) for clips in queries]
    ratings = [np.array([c[1] for c in clips]) for clips in queries]
    got = highlight_precisions(scores, ratings, least)
    for row, predicted, rated in zip(got, scores, ratings, strict=True):
        for annotator in range(3):
            expected = naive(predicted.tolist(), (rated[:, annotator] >= least).tolist())
            assert row[annotator] == pytest.approx(expected)
    with mock.patch.object(highlights, "_BLOCK", 2):
        assert (highlight_precisions(scores, ratings, least) == got).all()
    assert highlight_precisions([s * 7 - 2 for s in scores], ratings, least) == pytest.approx(got)
    # Each annotator's own ratings as scores find all of theirs first.
    for annotator in range(3):
        own = highlight_precisions(
            [rated[:, annotator].astype(float) for rated in ratings], ratings, least
        )
        assert own[:, annotator].tolist() == [
            float((rated[:, annotator] >= least).any()) for rated in ratings
        ]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: highlight_hits([np.ones(2)], [], 4),
            ShapeError,
            "clip scores of 1 queries, but ratings of 0",
        ),
        (lambda: highlight_hits([], [], 4), UsageError, "no queries"),
        (lambda: highlight_hits([np.ones((2, 1))], [np.ones((2, 3))], 4), ShapeError, "(2, 1)"),
        (
            lambda: highlight_hits([np.ones(2)] * 2, [np.ones((2, 3)), np.ones((2, 2))], 4),
            ShapeError,
            "query 1",
        ),
        (
            lambda: highlight_hits([np.array([])], [np.ones((2, 3))], 4),
            UsageError,
            "0 scores and 2 clips",
        ),
        (lambda: highlight_hits([np.array([np.inf])], [np.ones((2, 3))], 4), UsageError, "finite"),
        (
            lambda: highlight_hits([np.ones(1)], [np.full((1, 3), np.nan)], 4),
            UsageError,
            "rating that is NaN",
        ),
        (lambda: clip_ratings(2, [2], [[1]]), UsageError, "the video has 2"),
        (lambda: clip_ratings(2, [1, 0], [[1]]), ShapeError, "(1, 1)"),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)


def test_clip_count_and_its_limit():
    assert clip_count(9.9, 2.0, 1) == 4 and clip_count(9.9, 2.0, 7) == 8
    assert clip_count(2.0 * MAX_CLIPS, 2.0, 0) == MAX_CLIPS
    for seconds, clip, last in [(1e12, 2.0, 0), (10.0, 1e-9, 0), (10.0, 2.0, 2**31 - 1)]:
        with pytest.raises(UsageError, match="the maximum is 100,000"):
            clip_count(seconds, clip, last)
