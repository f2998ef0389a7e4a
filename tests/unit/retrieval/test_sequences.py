"""One thing after another: against a loop over all ways, and over all videos."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.naive_search import overlap, smoothed
from unit.retrieval.test_searcher import ENCODER, compared, filled, searcher, unit
from vla.indexes import registry as indexes
from vla.indexing.segments import windows_and_changes
from vla.model import pool_segments
from vla.retrieval.filters import VideoFilter
from vla.retrieval.query import Query
from vla.retrieval.sequences import find_sequences


def best_way(curves, times, within):
    """The frames of the best way, and what it scores less than the best frame of each step, in the mean; None if there is none."""
    values = [smoothed(list(c), list(times)) for c in curves]
    ways = [
        (sum(v[t] for v, t in zip(values, way, strict=True)), way)
        for way in itertools.combinations(range(len(times)), len(curves))
        if all(times[b] - times[a] <= within for a, b in itertools.pairwise(way))
    ]
    if not ways:
        return None
    score, way = max(ways, key=lambda w: w[0])
    return way, (sum(map(max, values)) - score) / len(values)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(2, 3), st.integers(0, 10**6), st.sampled_from([0.4, 0.5, 1.2, 3.0, math.inf]))
def test_the_best_way_is_that_of_a_loop_over_all(frames, steps, seed, within):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.2, 0.8, frames))
    curves = list(rng.standard_normal((steps, frames)))
    found = find_sequences(curves, times, float(times[-1]) + 0.5, within)
    wanted = best_way(curves, times, within)
    if wanted is None:
        assert found == []
        return
    way, behind = wanted
    assert found[0].peaks.tolist() == times[list(way)].tolist()
    assert found[0].score_gap == pytest.approx(behind, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 4), st.integers(0, 10**6), st.sampled_from([1.0, 4.0, math.inf]))
def test_steps_follow_each_other_and_ways_do_not_overlap(frames, steps, seed, within):
    rng = np.random.default_rng(seed)
    times = np.arange(frames) / 2
    curves = list(rng.standard_normal((steps, frames)).cumsum(1))
    found = find_sequences(curves, times, frames / 2, within, 5)
    assert [c.score_gap for c in found] == sorted(c.score_gap for c in found)
    for chain in found:
        assert (np.diff(chain.peaks) > 0).all() and (np.diff(chain.peaks) <= within).all()
        assert (chain.spans[:, 0] <= chain.peaks).all() and (chain.peaks < chain.spans[:, 1]).all()
        assert (chain.spans[:-1, 1] <= chain.spans[1:, 0]).all(), "no step's span reaches into the next one's"
    whole = [(c.spans[0, 0], c.spans[-1, 1]) for c in found]
    assert all(overlap(a, b) <= 0.3 for a, b in itertools.combinations(whole, 2))
    later = find_sequences([c + 7 for c in curves], times + 100, frames / 2 + 100, within, 5)
    for one, other in zip(found, later, strict=True):
        np.testing.assert_allclose(other.spans, one.spans + 100)
        assert other.score_gap == pytest.approx(one.score_gap, abs=1e-9)


def test_planted_steps_are_found_with_their_spans():
    first, second = np.zeros(80), np.zeros(80)
    first[50:60] = first[10:20] = 1.0
    second[20:30] = 1.0
    (found, *_) = find_sequences([first, second], np.arange(80.0), 80.0, math.inf, 1)
    np.testing.assert_allclose(found.spans, [[10, 20], [20, 30]], atol=1)
    assert found.score_gap == pytest.approx(0, abs=0.05)
    (backwards, *_) = find_sequences([second, first], np.arange(80.0), 80.0, 5, 1)
    assert backwards.score_gap > 0.3, "nothing of the first follows the second so soon"


def test_frames_without_time_on_screen_count_for_nothing():
    times = np.array([0.0, 1.0, 1.0, 2.0])
    (found,) = find_sequences([np.array([0, 9.0, 0, 0]), np.array([0, 0, 0, 1.0])], times, 3.0)
    assert found.peaks[0] != 1.0 or found.score_gap < 1, "the hidden frame's 9 is not seen"
    assert find_sequences([np.ones(1), np.ones(1)], np.zeros(1), 1.0) == []


def naive(cache, texts, within, bias=None):
    """(score, video, peaks) of the best way through each video, best first."""
    vectors = [unit(ENCODER.encode_text([t]).pooled[0]) for t in texts]
    found, row = [], 0
    for video_id in cache.video_ids():
        features = cache.frames(video_id)
        frames = unit(features.values.astype(np.float64))
        rows = pool_segments(frames, features, windows_and_changes(features)).vectors.astype(np.float64)
        lowered = np.zeros(len(rows)) if bias is None else bias[row : row + len(rows)]
        row += len(rows)
        top = np.mean([(rows @ v - lowered).max() for v in vectors])
        way = best_way([frames @ v for v in vectors], features.timestamps_seconds, within)
        if way is not None:
            found.append((top - way[1], video_id, features.timestamps_seconds[list(way[0])].tolist()))
    return sorted(found, key=lambda f: -f[0])


@pytest.mark.parametrize("backend", indexes.names())
@pytest.mark.parametrize("within", [1.0, 3.0, math.inf])
def test_the_hits_are_those_of_a_loop_over_all_videos(tmp_path, backend, within):
    cache = filled(tmp_path / "c", [9, 30, 1, 25, 40, 2], seed=4)
    find = searcher(cache, tmp_path, backend)
    texts = ("a red dog", "rain on a roof")
    wanted = naive(cache, texts, within)
    hits = find.search(Query(texts[0], then=texts[1:], within=within), 10, 1)
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in wanted], atol=2e-5)
    assert [(h.video_id, [s[3] for s in h.steps]) for h in hits] == [(w[1], w[2]) for w in wanted]
    for rank, hit in enumerate(hits, 1):
        assert (
            hit.rank == rank and hit.query == "a red dog > rain on a roof" and [s[0] for s in hit.steps] == list(texts)
        )
        assert (hit.start, hit.end, hit.peak) == (hit.steps[0][1], hit.steps[-1][2], hit.steps[0][3])
    assert find.search(Query(texts[0], then=texts[1:], within=within), 2, 1) == hits[:2]
    some = find.search(
        Query(texts[0], then=texts[1:], within=within), 10, 1, filters=VideoFilter(exclude=(hits[0].video_id,))
    )
    assert [(h.video_id, h.score, h.steps) for h in some] == [(h.video_id, h.score, h.steps) for h in hits[1:]]


def test_few_rows_at_first_change_nothing(tmp_path, monkeypatch):
    """Videos that no step's first rows name are looked into as well, if they could matter."""
    find = searcher(filled(tmp_path / "c", [20] * 12, seed=5), tmp_path)
    query = Query("a dog", then=("a cat",))
    every = find.search(query, 4, 2)
    monkeypatch.setattr("vla.retrieval.ranking.FIRST_ROWS", 2)
    monkeypatch.setattr("vla.retrieval.ranking.ROWS_PER_HIT", 1)
    assert find.search(query, 4, 2) == every


def test_bias_and_confidence_are_those_of_the_steps(tmp_path):
    cache = filled(tmp_path / "c", [9, 30, 25], seed=4)
    find = compared(searcher(cache, tmp_path))
    texts = ("a red dog", "rain on a roof")
    wanted = naive(cache, texts, 5, find.hubness_correction.hubness)
    hits = find.search(Query(texts[0], then=texts[1:], within=5), 3, 1)
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in wanted], atol=2e-5)
    for hit in hits:
        features = cache.frames(hit.video_id)
        frames = unit(features.values.astype(np.float64))
        sure = []
        for text, start, end, _ in hit.steps:
            inside = (features.timestamps_seconds >= start) & (features.timestamps_seconds < end)
            cosine = unit(frames[inside].mean(0)) @ unit(ENCODER.encode_text([text]).pooled[0])
            sure.append(1 - (1 + int((find.hubness_correction.null_scores >= cosine).sum())) / 61)
        assert hit.confidence == pytest.approx(min(sure), abs=1 / 61 + 1e-9)


def test_a_step_lasts_while_its_curve_is_in_the_upper_half():
    """From its background to its peak; what is smoothed away of a second's plateau is less than the margins here."""
    times = np.arange(60.0)
    first, second = np.full(60, 0.2), np.full(60, 0.2)
    first[10:14], first[14:17], first[17:20] = 0.30, 0.26, 0.24
    second[40:45] = 0.30
    (chain,) = find_sequences([first, second], times, 60.0)
    assert chain.spans.tolist() == [[10.0, 17.0], [40.0, 45.0]]
