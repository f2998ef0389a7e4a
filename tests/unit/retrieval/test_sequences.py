"""Event sequences match loops over all choices of frames, and over all videos."""

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import naive_search
from support.naive_search import overlap, smooth
from unit.retrieval.test_searcher import (
    calibration_by_loops,
    filled,
    searcher,
    text_vector,
    videos_of,
    with_calibration,
)
from vla.indexes import registry as indexes
from vla.retrieval.filters import VideoFilter
from vla.retrieval.indexed_videos import NearestRows
from vla.retrieval.query import Query
from vla.retrieval.scorers import RankingConfig, SequenceScorer
from vla.retrieval.sequences import find_sequences


def best_sequence(curves, times, within):
    """Return the frames of the best sequence and its score gap; None if there is none."""
    values = [smooth(list(c), list(times)) for c in curves]
    sequences = [
        (sum(v[t] for v, t in zip(values, frames_of_steps, strict=True)), frames_of_steps)
        for frames_of_steps in itertools.combinations(range(len(times)), len(curves))
        if all(times[b] - times[a] <= within for a, b in itertools.pairwise(frames_of_steps))
    ]
    if not sequences:
        return None
    score, frames_of_steps = max(sequences, key=lambda w: w[0])
    return frames_of_steps, (sum(map(max, values)) - score) / len(values)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 14),
    st.integers(2, 3),
    st.integers(0, 10**6),
    st.sampled_from([0.4, 0.5, 1.2, 3.0, math.inf]),
)
def test_best_sequence_matches_brute_force(frames, steps, seed, within):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.2, 0.8, frames))
    curves = list(rng.standard_normal((steps, frames)))
    sequences = find_sequences(curves, times, float(times[-1]) + 0.5, within)
    expected = best_sequence(curves, times, within)
    if expected is None:
        assert sequences == []
        return
    frames_of_steps, score_gap = expected
    assert sequences[0].peaks.tolist() == times[list(frames_of_steps)].tolist()
    assert sequences[0].score_gap == pytest.approx(score_gap, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 60),
    st.integers(2, 4),
    st.integers(0, 10**6),
    st.sampled_from([1.0, 4.0, math.inf]),
)
def test_steps_are_ordered_and_sequences_do_not_overlap(frames, steps, seed, within):
    rng = np.random.default_rng(seed)
    times = np.arange(frames) / 2
    curves = list(rng.standard_normal((steps, frames)).cumsum(1))
    sequences = find_sequences(curves, times, frames / 2, within, 5)
    assert [c.score_gap for c in sequences] == sorted(c.score_gap for c in sequences)
    for sequence in sequences:
        assert (np.diff(sequence.peaks) > 0).all() and (np.diff(sequence.peaks) <= within).all()
        assert (sequence.spans[:, 0] <= sequence.peaks).all() and (
            sequence.peaks < sequence.spans[:, 1]
        ).all()
        assert (sequence.spans[:-1, 1] <= sequence.spans[1:, 0]).all(), (
            "spans of steps do not overlap"
        )
    extents = [(c.spans[0, 0], c.spans[-1, 1]) for c in sequences]
    assert all(overlap(a, b) <= 0.3 for a, b in itertools.combinations(extents, 2))
    later = find_sequences([c + 7 for c in curves], times + 100, frames / 2 + 100, within, 5)
    for one, other in zip(sequences, later, strict=True):
        np.testing.assert_allclose(other.spans, one.spans + 100)
        assert other.score_gap == pytest.approx(one.score_gap, abs=1e-9)


def test_finds_planted_steps():
    first, second = np.zeros(80), np.zeros(80)
    first[50:60] = first[10:20] = 1.0
    second[20:30] = 1.0
    (sequences, *_) = find_sequences([first, second], np.arange(80.0), 80.0, math.inf, 1)
    np.testing.assert_allclose(sequences.spans, [[10, 20], [20, 30]], atol=1)
    assert sequences.score_gap == pytest.approx(0, abs=0.05)
    (backwards, *_) = find_sequences([second, first], np.arange(80.0), 80.0, 5, 1)
    assert backwards.score_gap > 0.3, "nothing of the first follows the second so soon"


def test_ignores_frames_of_zero_duration():
    times = np.array([0.0, 1.0, 1.0, 2.0])
    (sequences,) = find_sequences([np.array([0, 9.0, 0, 0]), np.array([0, 0, 0, 1.0])], times, 3.0)
    assert sequences.peaks[0] != 1.0 or sequences.score_gap < 1, (
        "the value 9 of the hidden frame is ignored"
    )
    assert find_sequences([np.ones(1), np.ones(1)], np.zeros(1), 1.0) == []


def naive(cache, texts, within, calibration=None):
    """Return (score, video, peaks) of the best sequence of each video, best first."""
    vectors, sequences = [text_vector(t).tolist() for t in texts], []
    for video in videos_of(cache):
        scores = [naive_search.video_score(v, video, calibration) for v in vectors]
        curves = [naive_search.similarities_to(v, video.frames, calibration) for v in vectors]
        best = best_sequence(curves, video.times, within)
        if best is not None:
            peaks = [video.times[t] for t in best[0]]
            sequences.append((sum(scores) / len(scores) - best[1], video.name, peaks))
    return sorted(sequences, key=lambda f: -f[0])


@pytest.mark.parametrize("backend", indexes.names())
@pytest.mark.parametrize("within", [1.0, 3.0, math.inf])
def test_search_matches_brute_force(tmp_path, backend, within):
    cache = filled(tmp_path / "c", [9, 30, 1, 25, 40, 2], seed=4)
    find = searcher(cache, tmp_path, backend)
    texts = ("a red dog", "rain on a roof")
    expected = naive(cache, texts, within)
    hits = find.search(Query(texts[0], then=texts[1:], within=within), 10, 1)
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in expected], atol=2e-5)
    assert [(h.video_id, [s[3] for s in h.steps]) for h in hits] == [(w[1], w[2]) for w in expected]
    for rank, hit in enumerate(hits, 1):
        assert (
            hit.rank == rank
            and hit.query == "a red dog > rain on a roof"
            and [s[0] for s in hit.steps] == list(texts)
        )
        assert (hit.start, hit.end, hit.peak) == (
            hit.steps[0][1],
            hit.steps[-1][2],
            hit.steps[0][3],
        )
    assert find.search(Query(texts[0], then=texts[1:], within=within), 2, 1) == hits[:2]
    filtered = find.search(
        Query(texts[0], then=texts[1:], within=within),
        10,
        1,
        filters=VideoFilter(exclude=(hits[0].video_id,)),
    )
    assert [(h.video_id, h.score, h.steps) for h in filtered] == [
        (h.video_id, h.score, h.steps) for h in hits[1:]
    ]


def test_initial_number_of_rows_does_not_matter(tmp_path):
    """Videos beyond the first rows of every step are scored as well if they could matter."""
    find = searcher(filled(tmp_path / "c", [20] * 12, seed=5), tmp_path)
    query = Query("a dog", then=("a cat",))
    expected = find.search(query, 4, 2)
    few_rows = dataclasses.replace(find, config=RankingConfig(min_rows=2, rows_per_hit=1))
    assert few_rows.search(query, 4, 2) == expected


def test_centered_steps_and_their_confidence(tmp_path):
    cache = filled(tmp_path / "c", [9, 30, 25], seed=4)
    find = with_calibration(searcher(cache, tmp_path))
    texts, calibration = ("a red dog", "rain on a roof"), calibration_by_loops(find)
    expected = naive(cache, texts, 5, calibration)
    hits = find.search(Query(texts[0], then=texts[1:], within=5), 3, 1)
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in expected], atol=2e-5)
    assert [(h.video_id, [s[3] for s in h.steps]) for h in hits] == [w[1:] for w in expected]
    videos = {video.name: video for video in videos_of(cache)}
    for hit in hits:
        confidences = [
            naive_search.confidence(
                naive_search.span_score(
                    text_vector(text), videos[hit.video_id], (start, end), calibration
                ),
                calibration.null_scores,
            )
            for text, start, end, _ in hit.steps
        ]
        assert hit.confidence == pytest.approx(min(confidences), abs=1 / 61 + 1e-9)


def test_unlisted_videos_are_below_their_bound():
    """Also where one step is similar to all videos, and another to none.

    The bound of the mean frame counts where it is positive, for each step by itself.
    """
    videos = SimpleNamespace(
        center=lambda step: SimpleNamespace(
            similarity=step, bound_score=lambda bound: bound + 0.15 * max(0.0, bound)
        ),
        nearest=lambda step, rows, mask: NearestRows(
            np.zeros(0, int), np.zeros(0), step.similarity
        ),
        index=SimpleNamespace(video_of_row=np.zeros(0, int)),
        first_duplicate=np.zeros(0, int),
    )
    for bounds in ((0.5, -0.5), (0.4, 0.2), (-0.1, -0.3), (-np.inf, -np.inf)):
        scorer = SequenceScorer(videos, list(bounds), math.inf, 1, None)
        highest = np.mean([b + 0.15 * max(0.0, b) for b in bounds])
        assert scorer.candidates(1, 1).unlisted_bound == pytest.approx(highest)


def test_span_of_a_step_is_above_the_threshold():
    """Half way from the baseline of the curve to its peak; the margins exceed the effect of smoothing."""
    times = np.arange(60.0)
    first, second = np.full(60, 0.2), np.full(60, 0.2)
    first[10:14], first[14:17], first[17:20] = 0.30, 0.26, 0.24
    second[40:45] = 0.30
    (sequence,) = find_sequences([first, second], times, 60.0)
    assert sequence.spans.tolist() == [[10.0, 17.0], [40.0, 45.0]]
