"""Duration prior: estimates from captions, and searches with a range match loops."""

import dataclasses
import math

import numpy as np
import pytest

from unit.retrieval.test_searcher import (
    ENCODER,
    assert_same,
    calibration_by_loops,
    filled,
    naive,
    predict_alone,
    searcher,
    with_a_head,
    with_calibration,
)
from vla.cache.receipts import Receipt
from vla.datasets.base import Annotation, Question
from vla.errors import UsageError
from vla.features import FrameFeatures
from vla.localization.duration_range import ANY_DURATION
from vla.localization.similarity_curve import SimilarityCurve
from vla.model import zero_shot_model
from vla.retrieval.calibration import CenteredQuery
from vla.retrieval.duration_prior import MIN_CAPTIONS, estimate_duration_range
from vla.retrieval.filters import VideoFilter
from vla.retrieval.moments import HeadPredictions, MomentLocalizer, SegmentScores
from vla.retrieval.query import Query


def captions(seconds, split="train", **more):
    return [
        Annotation(f"{split}{i}", "a dog", "v", ((1.0, 1.0 + s),), split, **more)
        for i, s in enumerate(seconds)
    ]


def receipts(**seconds):
    return {
        name: Receipt(name, "ok", "", 1, 1, "", duration_seconds=s) for name, s in seconds.items()
    }


def test_range_covers_nine_in_ten_captioned_moments():
    seconds = np.linspace(1.0, 5.0, 101)
    shortest, longest = estimate_duration_range(
        captions(np.random.default_rng(0).permutation(seconds)), {}
    )
    assert (shortest, longest) == pytest.approx((1.2, 4.8))
    two = [Annotation("q", "a dog", "v", ((0.0, 2.0), (5.0, 8.0)))] * 25
    assert estimate_duration_range(two, {}) == pytest.approx((2.0, 3.0))


def test_ignores_few_moments_test_captions_and_questions():
    assert estimate_duration_range(captions([2.0] * MIN_CAPTIONS), {}) == (2.0, 2.0)
    assert estimate_duration_range(captions([2.0] * (MIN_CAPTIONS - 1)), {}) is None
    assert (
        estimate_duration_range(
            [
                *captions([2.0] * (MIN_CAPTIONS - 1)),
                *captions([2.0] * 50, "test"),
                *captions([], ""),
            ],
            {},
        )
        is None
    )
    hits = captions([9.0] * 50, question=Question(answers=("red",)))
    assert estimate_duration_range([*captions([2.0] * (MIN_CAPTIONS - 1)), *hits], {}) is None
    assert (
        estimate_duration_range([Annotation(str(i), "a dog", "v") for i in range(99)], {}) is None
    )


def test_ignores_whole_video_captions():
    """By the duration of the receipt, or else that of the caption."""
    brief = captions([2.0] * MIN_CAPTIONS)
    whole_video = [dataclasses.replace(a, video="w") for a in captions([9.9] * 99)]
    assert estimate_duration_range([*brief, *whole_video], receipts(v=60.0, w=10.0)) == (2.0, 2.0)
    assert estimate_duration_range(
        [*brief, *(dataclasses.replace(a, duration=10.0) for a in whole_video)], {}
    ) == (
        2.0,
        2.0,
    )
    assert estimate_duration_range([*brief, *whole_video], receipts(w=11.0)) == pytest.approx(
        (2.0, 9.9)
    )
    assert estimate_duration_range(whole_video, receipts(w=10.0)) is None


@pytest.mark.parametrize(
    "duration_range",
    [(2.0, 3.0), (4.9, 5.3), (10.0, math.inf), (0.0, 1.0), (900.0, 901.0), ANY_DURATION],
)
@pytest.mark.parametrize(("k", "per_video"), [(5, 1), (30, None)])
def test_hits_last_as_long_as_the_query_says(tmp_path, duration_range, k, per_video):
    """Videos without such a moment have no hits; other videos are searched for more."""
    cache = filled(tmp_path / "c", [9, 40, 1, 25, 120, 60])
    find = with_calibration(searcher(cache, tmp_path))
    hits = find.search(Query("a red dog", duration=duration_range), k, per_video)
    calibration = calibration_by_loops(find)
    expected = naive(cache, "a red dog", 100, per_video, calibration, duration_range=duration_range)
    shortest, longest = duration_range
    assert_same(hits, [w for w in expected if shortest <= w[3] - w[2] <= longest][:k])
    assert bool(hits) == (shortest < 900)


def test_prior_applies_unless_the_query_has_a_range(tmp_path):
    cache = filled(tmp_path / "c", [9, 40, 25, 120, 60])
    find = with_calibration(searcher(cache, tmp_path))
    known = dataclasses.replace(find.calibration, duration_range=(2.0, 3.0))
    with_prior = dataclasses.replace(find, calibration=known)
    brief = with_prior.search("a dog", 20)
    calibration = calibration_by_loops(find)
    assert_same(brief, naive(cache, "a dog", 20, None, calibration, duration_range=(2.0, 3.0)))
    assert all(2.0 <= hit.end - hit.start <= 3.0 for hit in brief)
    assert brief != find.search("a dog", 20)
    assert with_prior.search(Query("a dog", duration=ANY_DURATION), 20) == find.search("a dog", 20)
    # A video's own score, and what a moment like another is, have nothing to do with it.
    assert [h.score for h in with_prior.search("a dog", 20, 1)] == [
        h.score for h in find.search("a dog", 20, 1)
    ]
    assert with_prior.search_like("v/1.mp4", 3.0) == dataclasses.replace(
        find, calibration=None
    ).search_like("v/1.mp4", 3.0)


def test_prior_longer_than_a_video_excludes_nothing(tmp_path):
    find = with_calibration(searcher(filled(tmp_path / "c", [9, 40, 25]), tmp_path))
    known = dataclasses.replace(find.calibration, duration_range=(15.0, 30.0))
    with_prior = dataclasses.replace(find, calibration=known)
    assert {h.video_id for h in with_prior.search("a dog")} == {"v/0.mp4", "v/1.mp4", "v/2.mp4"}
    hits = with_prior.search(Query("a dog", duration=(15.0, 30.0)))
    assert hits and {h.video_id for h in hits} == {"v/1.mp4"}
    with pytest.raises(UsageError, match="invalid video duration range 15 to 10 s"):
        with_prior.search(
            Query("a dog", duration=(15.0, 30.0)), filters=VideoFilter(max_duration=10.0)
        )


@pytest.mark.parametrize("duration_range", [(0.0, 4.0), (4.0, 9.0), (400.0, 500.0)])
def test_predictions_outside_the_range_are_dropped(tmp_path, duration_range):
    model, cache = with_a_head(), filled(tmp_path / "c", [40, 70, 300])
    raw = ENCODER.encode_text(["a dog"]).pooled[0]
    all_rows = {name: predict_alone(model, cache.frames(name), raw) for name in cache.video_ids()}
    fits = {
        name: [t for t in rows if duration_range[0] <= t[1] - t[0] <= duration_range[1]]
        for name, rows in all_rows.items()
    }
    assert any(len(fits[name]) < len(all_rows[name]) for name in fits)
    assert any(fits.values()) == (duration_range[0] < 400)
    vector = model.align_texts(raw[None])[0]
    expected = naive(
        cache,
        "a dog",
        20,
        3,
        vector=vector,
        duration_range=duration_range,
        predictions=fits,
        align=model.align_frames,
    )
    expected = [w for w in expected if duration_range[0] <= w[3] - w[2] <= duration_range[1]]
    hits = searcher(cache, tmp_path, model=model).search(
        Query("a dog", duration=duration_range), 20, 3
    )
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in expected], atol=1e-5)
    np.testing.assert_allclose(
        np.reshape([(h.start, h.end) for h in hits], (-1, 2)),
        np.reshape([w[2:4] for w in expected], (-1, 2)),
        atol=1e-4,
    )


def test_probabilities_of_a_head_set_bounds_and_ranks():
    """The best moment has the score of the video, others less by a share of the rise of the curve."""
    times = np.arange(80) / 2
    frames = np.zeros((80, 2), np.float32)
    frames[:, 1] = 1.0
    frames[20:24], frames[60:64] = (0.6, 0.8), (0.62, math.sqrt(1 - 0.62**2))
    features = FrameFeatures("v", frames, times, 40.0)
    rows = SegmentScores(np.array([[0.0, 40.0]]), np.array([0.1]), 0.7)
    localizer = MomentLocalizer(zero_shot_model(2, 1.0), None)
    query = CenteredQuery.of(np.array([1.0, 0.0], np.float32), None)
    curve = SimilarityCurve(frames[:, 0], times, 40.0)
    rise = curve.rise

    def hits(*moments, count=2, segments=rows):
        predictions = HeadPredictions(
            np.reshape([m[:2] for m in moments], (-1, 2)), np.array([m[2] for m in moments])
        )
        return localizer.localize(features, frames, query, segments, count, predictions)

    for moments in ([(10.2, 12.1, 0.9), (30.1, 31.9, 0.2)], [(30.1, 31.9, 0.2), (10.2, 12.1, 0.9)]):
        result = hits(*moments)
        assert result.spans.tolist() == [[10.2, 12.1], [30.1, 31.9]]
        # The curve counts by the root of the excess.
        first, second = curve.shares(result.spans)
        share = 0.2 * math.sqrt(second) / (0.9 * math.sqrt(first))
        np.testing.assert_allclose(result.scores, [0.7, 0.7 - rise * (1 - share)], atol=1e-9)
        np.testing.assert_allclose(result.peaks, [10.5, 30.5])
    assert hits((30.1, 31.9, 0.9), (10.2, 12.1, 0.8)).spans[0].tolist() == [30.1, 31.9]
    # Of two moments, the better one is kept if they overlap by an IoU above 0.3, or by over half of
    # the shorter one.
    for better, other, is_kept in (
        ((1.0, 5.0, 0.9), (3.0, 7.0, 0.8), False),
        ((1.0, 5.0, 0.9), (3.5, 7.5, 0.8), True),
        ((1.0, 9.0, 0.9), (3.0, 4.0, 0.8), False),
    ):
        spans = hits(better, other, count=4).spans.tolist()
        assert spans[0] == list(better[:2]) and (list(other[:2]) in spans) == is_kept
    # Where the head sees nothing, the moments of the curve follow.
    assert hits((1.0, 5.0, 0.9), count=4).spans.tolist()[1:] == [[30.0, 32.0], [10.0, 12.0]]
    # Without predictions, or without a head, moments are those of the curve.
    by_curve = localizer.localize(features, frames, query, rows, 2)
    assert by_curve.spans.tolist() == [[30.0, 32.0], [10.0, 12.0]]
    assert hits().spans.tolist() == by_curve.spans.tolist()
    assert by_curve.scores[0] == 0.7 and 0.7 - rise < by_curve.scores[1] < 0.7
    short = dataclasses.replace(rows, duration_range=(0.5, 0.5))
    assert np.diff(hits(segments=short).spans).tolist() == [[0.5], [0.5]]
    # No probability at all leaves those of the curve.
    assert hits((1.0, 3.0, 0.0)).spans.tolist() == by_curve.spans.tolist()
    gone = localizer.localize(None, frames, query, rows, 2)
    assert (gone.spans.tolist(), gone.scores.tolist(), gone.peaks.tolist()) == (
        [[0.0, 40.0]],
        [0.7],
        [0.0],
    )
