"""How long moments last: told by captions or by who asks; what is found lasts about so long, by loops."""

import dataclasses
import math

import numpy as np
import pytest

from unit.retrieval.test_searcher import ENCODER, compared, filled, naive, same, searcher, told_alone, with_a_head
from vla.cache.receipts import Receipt
from vla.datasets.base import Annotation, Question
from vla.errors import UsageError
from vla.features import FrameFeatures
from vla.model import zero_shot_model
from vla.retrieval.duration_prior import ANY_DURATION, MIN_CAPTIONS, estimate_duration_range
from vla.retrieval.filters import VideoFilter
from vla.retrieval.moments import HeadPredictions, MomentLocalizer, SegmentScores
from vla.retrieval.query import Query
from vla.spans import windows


def told(seconds, split="train", **more):
    return [Annotation(f"{split}{i}", "a dog", "v", ((1.0, 1.0 + s),), split, **more) for i, s in enumerate(seconds)]


def known(**seconds):
    return {name: Receipt(name, "ok", "", 1, 1, "", duration_seconds=s) for name, s in seconds.items()}


def test_captions_tell_how_long_nine_in_ten_of_their_moments_last():
    seconds = np.linspace(1.0, 5.0, 101)
    least, most = estimate_duration_range(told(np.random.default_rng(0).permutation(seconds)), {})
    assert (least, most) == pytest.approx((1.2, 4.8))
    two = [Annotation("q", "a dog", "v", ((0.0, 2.0), (5.0, 8.0)))] * 25
    assert estimate_duration_range(two, {}) == pytest.approx((2.0, 3.0))


def test_neither_few_moments_nor_those_of_a_test_nor_questions_tell_anything():
    assert estimate_duration_range(told([2.0] * MIN_CAPTIONS), {}) == (2.0, 2.0)
    assert estimate_duration_range(told([2.0] * (MIN_CAPTIONS - 1)), {}) is None
    assert (
        estimate_duration_range([*told([2.0] * (MIN_CAPTIONS - 1)), *told([2.0] * 50, "test"), *told([], "")], {})
        is None
    )
    asked = told([9.0] * 50, question=Question(answers=("red",)))
    assert estimate_duration_range([*told([2.0] * (MIN_CAPTIONS - 1)), *asked], {}) is None
    assert estimate_duration_range([Annotation(str(i), "a dog", "v") for i in range(99)], {}) is None


def test_of_segments_those_are_looked_at_that_last_about_so_long_or_all():
    """About: by a factor of the root of two, so that of windows whose lengths double one does."""
    spans = np.array([(0.0, 2.0), (0.0, 4.0), (4.0, 8.0), (0.0, 8.0)])
    for lasting, fitting in (((2.9, 2.9), [1, 2]), ((2.0, 2.8), [0]), ((6.0, 9.0), [3]), ((20.0, 30.0), [0, 1, 2, 3])):
        found, scores = SegmentScores(spans, np.arange(4.0), 1.0, lasting).of_duration()
        assert found.tolist() == spans[fitting].tolist() and scores.tolist() == fitting, lasting


def test_what_is_all_of_its_video_tells_nothing_of_moments():
    """By the length that is known of the video, or else the file's own."""
    brief = told([2.0] * MIN_CAPTIONS)
    whole = [dataclasses.replace(a, video="w") for a in told([9.9] * 99)]
    assert estimate_duration_range([*brief, *whole], known(v=60.0, w=10.0)) == (2.0, 2.0)
    assert estimate_duration_range([*brief, *(dataclasses.replace(a, duration=10.0) for a in whole)], {}) == (2.0, 2.0)
    assert estimate_duration_range([*brief, *whole], known(w=11.0)) == pytest.approx((2.0, 9.9))
    assert estimate_duration_range(whole, known(w=10.0)) is None


@pytest.mark.parametrize(
    "lasting", [(2.0, 3.0), (4.9, 5.3), (10.0, math.inf), (0.0, 1.0), (900.0, 901.0), ANY_DURATION]
)
@pytest.mark.parametrize(("k", "per_video"), [(5, 1), (30, 3)])
def test_what_is_found_lasts_as_long_as_is_asked_for(tmp_path, lasting, k, per_video):
    """And nothing else is: of a video that has no such moment nothing, but the others are looked into for as many."""
    cache = filled(tmp_path / "c", [9, 40, 1, 25, 120, 60])
    find = compared(searcher(cache, tmp_path))
    hits = find.search(Query("a red dog", duration=lasting), k, per_video)
    wanted = naive(cache, "a red dog", 100, per_video, find.hubness_correction, lasting=lasting)
    least, most = lasting
    same(hits, [w for w in wanted if least <= w[3] - w[2] <= most][:k])
    assert bool(hits) == (least < 900)


def test_the_background_knows_how_long_unless_it_is_said(tmp_path):
    cache = filled(tmp_path / "c", [9, 40, 25, 120, 60])
    find = compared(searcher(cache, tmp_path))
    knows = dataclasses.replace(
        find, hubness_correction=dataclasses.replace(find.hubness_correction, duration_range=(2.0, 3.0))
    )
    brief = knows.search("a dog", 20)
    same(brief, naive(cache, "a dog", 20, 3, find.hubness_correction, lasting=(2.0, 3.0)))
    assert brief != find.search("a dog", 20)
    assert knows.search(Query("a dog", duration=ANY_DURATION), 20) == find.search("a dog", 20)
    # A video's own score, and what a moment like another is, have nothing to do with it.
    assert [h.score for h in knows.search("a dog", 20, 1)] == [h.score for h in find.search("a dog", 20, 1)]
    assert knows.search_like("v/1.mp4", 3.0) == dataclasses.replace(find, hubness_correction=None).search_like(
        "v/1.mp4", 3.0
    )


def test_of_a_scene_a_part_is_found_where_moments_are_brief():
    """Eight seconds show the dog, and two of them a little better: that is all of the scene, or these two."""
    times, curve = np.arange(120) / 2, np.full(120, 0.1, np.float32)
    curve[60:76] = 0.3
    curve[66:70] = 0.32
    features = FrameFeatures("v", curve[:, None], times, 60.0)
    cut = np.array([w[2:] for w in windows(times, 60.0)])
    cosines = np.array([curve[(times >= a) & (times < b)].mean() for a, b in cut])
    finder, one = MomentLocalizer(zero_shot_model(1, 1.0), None), np.ones(1, np.float32)

    def first(lasting):
        return (
            finder.find(features, curve[:, None], one, SegmentScores(cut, cosines, 0.32, lasting), 3).spans[0].tolist()
        )

    assert first(ANY_DURATION) == [30.0, 38.0]
    assert first((1.5, 2.5)) == [33.0, 35.0]
    assert first((2.4, 3.0))[0] <= 33.0 and first((2.4, 3.0))[1] >= 35.0 and np.diff(first((2.4, 3.0))) in (2.5, 3.0)


def test_where_captions_tell_of_longer_moments_than_a_video_it_is_found_all_the_same(tmp_path):
    find = compared(searcher(filled(tmp_path / "c", [9, 40, 25]), tmp_path))
    knows = dataclasses.replace(
        find, hubness_correction=dataclasses.replace(find.hubness_correction, duration_range=(15.0, 30.0))
    )
    assert {h.video_id for h in knows.search("a dog")} == {"v/0.mp4", "v/1.mp4", "v/2.mp4"}
    asked = knows.search(Query("a dog", duration=(15.0, 30.0)))
    assert asked and {h.video_id for h in asked} == {"v/1.mp4"}
    with pytest.raises(UsageError, match="no video is at least 15 s and at most 10 s long"):
        knows.search(Query("a dog", duration=(15.0, 30.0)), filters=VideoFilter(max_duration=10.0))


@pytest.mark.parametrize("lasting", [(0.0, 4.0), (4.0, 9.0), (400.0, 500.0)])
def test_of_what_a_head_says_counts_what_lasts_so_long(tmp_path, lasting):
    model, cache = with_a_head(), filled(tmp_path / "c", [40, 70, 300])
    raw = ENCODER.encode_text(["a dog"]).pooled[0]
    every = {name: told_alone(model, cache.frames(name), raw) for name in cache.video_ids()}
    fits = {name: [t for t in rows if lasting[0] <= t[1] - t[0] <= lasting[1]] for name, rows in every.items()}
    assert any(len(fits[name]) < len(every[name]) for name in fits)
    assert any(fits.values()) == (lasting[0] < 400)
    vector = model.align_texts(raw[None])[0]
    wanted = naive(cache, "a dog", 20, 3, vector=vector, lasting=lasting, told=fits, align=model.align_frames)
    wanted = [w for w in wanted if lasting[0] <= w[3] - w[2] <= lasting[1]]
    hits = searcher(cache, tmp_path, model=model).search(Query("a dog", duration=lasting), 20, 3)
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in wanted], atol=1e-5)
    np.testing.assert_allclose(
        np.reshape([(h.start, h.end) for h in hits], (-1, 2)), np.reshape([w[2:4] for w in wanted], (-1, 2)), atol=1e-4
    )


def test_what_a_head_is_sure_of_comes_before_what_fits_the_query_a_little_better():
    """And a moment is as much less sure as its score is lower, by whatever order the head told them in."""
    times = np.arange(80) / 2
    frames = np.zeros((80, 2), np.float32)
    frames[:, 1] = 1.0
    frames[20:24], frames[60:64] = (0.6, 0.8), (0.62, math.sqrt(1 - 0.62**2))
    features = FrameFeatures("v", frames, times, 40.0)
    cut = np.array([w[2:] for w in windows(times, 40.0, (2.0,))])
    cosines = np.array([frames[(times >= a) & (times < b), 0].mean() for a, b in cut])
    held = SegmentScores(cut, cosines, float(cosines.max()))
    finder, query = MomentLocalizer(zero_shot_model(2, 1.0), None), np.array([1.0, 0.0], np.float32)

    def asked(*rows):
        return finder.find(
            features,
            frames,
            query,
            held,
            2,
            HeadPredictions(np.array([r[:2] for r in rows]), np.array([r[2] for r in rows])),
        )

    for rows in ([(10.2, 12.1, 0.9), (30.1, 31.9, 0.2)], [(30.1, 31.9, 0.2), (10.2, 12.1, 0.9)]):
        found = asked(*rows)
        assert found.spans.tolist() == [[10.2, 12.1], [30.1, 31.9]]
        np.testing.assert_allclose(found.certain, held.cosine + found.scores - found.scores[0])
        assert found.scores[0] < 0.62 and found.scores[1] < found.scores[0]
        np.testing.assert_allclose(found.peaks, [10.5, 30.5])
    assert asked((30.1, 31.9, 0.9), (10.2, 12.1, 0.8)).spans[0].tolist() == [30.1, 31.9]
    # Where it says nothing, the ends are those of the curve, and no score is higher than what it says the most of.
    assert asked((1.0, 3.0, 0.9)).spans[0].tolist() == [30.0, 32.0]
    assert finder.find(features, frames, query, held, 2).spans[0].tolist() == [30.0, 32.0]
