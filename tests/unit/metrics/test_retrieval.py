"""Retrieval metrics: by hand, at chance, against every order of the ties, and against a published similarity matrix."""

from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.score_tables import partially_relevant, text_to_video, video_to_text, video_to_texts
from support.score_tables import retrieval as retrieval_table
from support.shared_data import SHARED
from vla.errors import ShapeError, UsageError
from vla.metrics import retrieval
from vla.metrics.retrieval import ranks, recalls_and_ranks

PUBLISHED = SHARED / "eval" / "dgl" / "msrvtt_1ka_sim_matrix.npy"


def recall(similarity, relevant, k):
    return recalls_and_ranks(similarity, relevant, (k,))[0][k]


SIMILARITY = np.array([[0.9, 0.1, 0.5, 0.3], [0.2, 0.4, 0.8, 0.4], [0.7, 0.7, 0.1, 0.7]])


def one_each(*columns, width=4):
    return np.array(columns)[:, None] == np.arange(width)


def test_ranks_by_hand():
    assert ranks(SIMILARITY, one_each(0, 1, 2)).tolist() == [1.0, 2.5, 4.0]
    assert ranks(SIMILARITY, one_each(2, 0, 3)).tolist() == [2.0, 4.0, 2.0]
    # Of several relevant items the best counts, and those that tie with it are not against it.
    several = np.array([[0, 1, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]], dtype=bool)
    assert ranks(SIMILARITY, several).tolist() == [2.0, 2.0, 1.5]


def test_metrics_by_hand():
    assert retrieval_table(SIMILARITY, one_each(0, 1, 2)) == pytest.approx(
        {"R@1": 100 / 3, "R@5": 100.0, "R@10": 100.0, "MedR": 2.5, "MnR": 2.5}
    )
    # The third query's item ties with two others for the first place.
    assert retrieval_table(SIMILARITY, one_each(0, 2, 3))["R@1"] == pytest.approx(
        100 * (1 + 1 + 1 / 3) / 3
    )
    assert recall(SIMILARITY, one_each(1, 1, 2), 2).tolist() == [0.0, 0.5, 0.0]
    assert recall(SIMILARITY, one_each(1, 1, 2), 3).tolist() == [0.0, 1.0, 0.0]
    assert recall(SIMILARITY, one_each(1, 1, 2), 9).tolist() == [1.0, 1.0, 1.0]


def test_equal_scores_are_at_chance():
    metrics = retrieval_table(np.zeros((50, 50)), np.eye(50, dtype=bool))
    assert metrics == pytest.approx(
        {"R@1": 2.0, "R@5": 10.0, "R@10": 20.0, "MedR": 25.5, "MnR": 25.5}
    )
    # Two relevant of four: one misses both with probability 1/2, two with 1/6.
    pair = np.array([[1, 1, 0, 0]], dtype=bool)
    assert recall(np.zeros((1, 4)), pair, 1).tolist() == pytest.approx([1 / 2])
    assert recall(np.zeros((1, 4)), pair, 2).tolist() == pytest.approx([5 / 6])
    assert recall(np.zeros((1, 4)), pair, 3).tolist() == [1.0]


def test_minus_infinity_scores_tie_last():
    assert ranks(np.array([[-np.inf, 0.0, -np.inf]]), one_each(0, width=3)).tolist() == [2.5]


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=5), min_size=1, max_size=3), st.data()
)
@settings(deadline=None, max_examples=40)
def test_recall_and_rank_match_enumeration_of_ties(rows, data):
    row = st.lists(st.booleans(), min_size=5, max_size=5).filter(any)
    relevant = np.array(data.draw(st.lists(row, min_size=len(rows), max_size=len(rows))))
    got = {k: recall(np.array(rows), relevant, k) for k in (1, 2, 3, 5, 7)}
    rank = ranks(np.array(rows), relevant)
    for q, scores in enumerate(rows):
        # A drawn order breaks the ties: Python sorts stably.
        orders = [sorted(order, key=lambda v: -scores[v]) for order in permutations(range(5))]
        places = [next(i for i, v in enumerate(order, 1) if relevant[q, v]) for order in orders]
        for k, values in got.items():
            assert values[q] == pytest.approx(np.mean([place <= k for place in places]))
        best = max(scores[v] for v in range(5) if relevant[q, v])
        if sum(scores[v] == best and relevant[q, v] for v in range(5)) == 1:
            assert rank[q] == pytest.approx(np.mean(places))
        else:
            assert rank[q] >= np.mean(places)


def test_several_captions_for_one_video():
    """Captions 0 and 1 tell video 0, caption 2 tells video 1; nothing tells video 2."""
    similarity = np.array([[0.1, 0.6, 0.9], [0.8, 0.5, 0.0], [0.7, 0.65, 0.2]])
    video_of_query = np.array([0, 0, 1])
    assert ranks(similarity, one_each(0, 0, 1, width=3)).tolist() == [3.0, 1.0, 2.0]
    assert text_to_video(similarity, video_of_query) == pytest.approx(
        {"R@1": 100 / 3, "R@5": 100, "R@10": 100, "MedR": 2, "MnR": 2}
    )
    # Video 0: its captions reach 0.8, the other's 0.7. Video 1: 0.6 and 0.65. Video 2 asks for nothing.
    expected = {"R@1": 100, "R@5": 100, "R@10": 100, "MedR": 1, "MnR": 1}
    assert video_to_text(similarity, video_of_query) == pytest.approx(expected)
    shuffled = [2, 0, 1]
    assert video_to_text(similarity[shuffled], video_of_query[shuffled]) == pytest.approx(expected)
    # With caption 0 at 0.66 for video 1, that video's own caption is second.
    similarity[0, 1] = 0.66
    assert video_to_text(similarity, video_of_query)["MnR"] == 1.5


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_video_to_text_matches_naive_loop(seed):
    draw = np.random.default_rng(seed)
    similarity, video_of_query = draw.integers(0, 6, (9, 4)) / 5, draw.integers(0, 4, 9)
    told = sorted(set(video_of_query.tolist()))
    best = [
        [max(similarity[q, v] for q in range(9) if video_of_query[q] == u) for u in told]
        for v in told
    ]
    place = [
        1 + sum(b > row[i] for b in row) + (row.count(row[i]) - 1) / 2 for i, row in enumerate(best)
    ]
    assert video_to_text(similarity, video_of_query)["MnR"] == pytest.approx(np.mean(place))


@pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"shared data: no published similarity matrix at {PUBLISHED}"
)
def test_published_figures_of_dgl_on_msrvtt():
    """DGL's own matrix gives the figures that it prints; where it holds exact ties, those took the query's side."""
    similarity, own = np.load(PUBLISHED).astype(np.float64), np.arange(1000)
    t2v = {"R@1": 48.0, "R@5": 71.3, "R@10": 81.4, "MedR": 2.0, "MnR": 13.649}
    v2t = {"R@1": 46.9, "R@5": 74.9, "R@10": 83.7, "MedR": 2.0, "MnR": 9.779}
    assert text_to_video(similarity, own) == pytest.approx(t2v, abs=1e-9)
    favoured = similarity.copy()
    np.fill_diagonal(favoured, np.diag(similarity) + 1e-9)
    assert video_to_text(favoured, own) == pytest.approx(v2t, abs=1e-9)
    # Nine videos tie with one or two foreign captions each, four of them for the first place.
    fair = {**v2t, "R@1": 46.7, "MnR": 9.785}
    assert video_to_text(similarity, own) == pytest.approx(fair, abs=1e-9)


SEEDS = st.integers(0, 2**32 - 1)


def several_captions(seed, captions=9, videos=4, levels=None):
    """Scores (with ties where `levels` says how many there are) and each caption's video."""
    draw = np.random.default_rng(seed)
    scores = (
        draw.standard_normal((captions, videos))
        if levels is None
        else draw.integers(0, levels, (captions, videos))
    )
    return scores / 7, draw.integers(0, videos, captions)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_video_to_texts_matches_published_loop(seed):
    """Rank of the closest of the video's captions, sorted by distance, as collaborative-experts counts it."""
    scores, video_of_query = several_captions(seed)
    places = []
    for video in sorted(set(video_of_query.tolist())):
        order = sorted(range(9), key=lambda q: -scores[q, video])
        places.append(min(order.index(q) + 1 for q in range(9) if video_of_query[q] == video))
    got = video_to_texts(scores, video_of_query)
    assert got["MnR"] == pytest.approx(np.mean(places)) and got["MedR"] == np.median(places)
    for k in (1, 5, 10):
        assert got[f"R@{k}"] == pytest.approx(100 * np.mean([place <= k for place in places]))


def test_captions_of_one_video_count_once_or_each():
    video_of_query = np.repeat([0, 1], 20)
    similarity = np.zeros((40, 2))
    similarity[:, 0] = np.repeat([0.3, 0.9], 20) + np.arange(40) / 1000
    similarity[:, 1] = np.repeat([0.1, 0.8], 20) + np.arange(40) / 1000
    assert video_to_texts(similarity, video_of_query)["MnR"] == (21 + 1) / 2
    assert video_to_text(similarity, video_of_query)["MnR"] == (2 + 1) / 2


def test_equal_captions_are_at_chance():
    """Three captions each of four videos: what five of twelve drawn without looking hold."""
    got = video_to_texts(np.zeros((12, 4)), np.repeat(np.arange(4), 3))
    assert got["R@5"] == pytest.approx(100 * (1 - comb(9, 5) / comb(12, 5)))
    assert video_to_text(np.zeros((12, 4)), np.repeat(np.arange(4), 3))["R@1"] == pytest.approx(25)


def test_caption_with_several_relevant_videos():
    similarity = np.array([[0.2, 0.9, 0.5, 0.4]])
    both = np.array([[True, False, False, True]])
    assert ranks(similarity, both).tolist() == [3.0]
    assert retrieval_table(similarity, both, (2, 3)) == {"R@2": 0, "R@3": 100, "MedR": 3, "MnR": 3}


def test_paragraph_rules_agree_in_both_directions():
    similarity = np.random.default_rng(3).standard_normal((7, 7))
    own = np.arange(7)
    assert (
        video_to_text(similarity, own)
        == video_to_texts(similarity, own)
        == text_to_video(similarity.T, own)
    )


def test_sum_of_recalls():
    """120 videos, three moments told of: found first, seventh and last."""
    similarity = np.zeros((3, 120))
    similarity[:] = -np.arange(120)
    got = partially_relevant(similarity, np.array([0, 6, 119]))
    assert got == pytest.approx(
        {"R@1": 100 / 3, "R@5": 100 / 3, "R@10": 200 / 3, "R@100": 200 / 3, "SumR": 200}
    )
    assert partially_relevant(np.zeros((3, 200)), np.arange(3))["SumR"] == pytest.approx(
        (1 + 5 + 10 + 100) / 2
    )


@given(SEEDS, st.sampled_from([None, 4]))
@settings(deadline=None, max_examples=30)
def test_metrics_are_invariant_to_order_and_scale(seed, levels):
    scores, video_of_query = several_captions(seed, levels=levels)
    draw = np.random.default_rng(seed)
    captions, videos = draw.permutation(9), draw.permutation(4)
    place = np.argsort(videos)
    for metrics in (text_to_video, video_to_text, video_to_texts):
        expected = metrics(scores, video_of_query)
        assert metrics(
            scores[captions][:, videos], place[video_of_query[captions]]
        ) == pytest.approx(expected)
        assert metrics(scores * 3 - 5, video_of_query) == pytest.approx(expected)
        assert metrics(np.float32(scores), video_of_query) == pytest.approx(expected)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_higher_score_of_relevant_item_never_hurts(seed):
    scores, video_of_query = several_captions(seed, levels=4)
    right = video_of_query[:, None] == np.arange(4)
    for metrics in (text_to_video, video_to_text, video_to_texts):
        before, after = (metrics(scores + bonus * right, video_of_query) for bonus in (0, 0.2))
        assert after["MnR"] <= before["MnR"] and all(
            after[f"R@{k}"] >= before[f"R@{k}"] - 1e-9 for k in (1, 5, 10)
        )
        perfect = metrics(scores + 10 * right, video_of_query)
        assert perfect == {"R@1": 100, "R@5": 100, "R@10": 100, "MedR": 1, "MnR": 1}


@pytest.mark.parametrize("block", [1, 10, 23])
def test_block_size_does_not_change_results(monkeypatch, block):
    scores, video_of_query = several_captions(5, captions=30, videos=6, levels=5)
    every = (text_to_video, video_to_text, video_to_texts, partially_relevant)
    expected = [metrics(scores, video_of_query) for metrics in every]
    monkeypatch.setattr(retrieval, "_BLOCK", block)
    assert [metrics(scores, video_of_query) for metrics in every] == expected


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: ranks(np.zeros((2, 3)), np.zeros((3, 2))),
            ShapeError,
            "(2, 3) and relevant (3, 2)",
        ),
        (
            lambda: ranks(np.zeros((3, 2)), np.eye(3, 2)),
            UsageError,
            "1 of 3 queries have no relevant item",
        ),
        (lambda: ranks(np.zeros((0, 2)), np.zeros((0, 2))), UsageError, "0 of 0"),
        (lambda: ranks(np.full((1, 1), np.nan), np.ones((1, 1))), UsageError, "NaN"),
        (lambda: recall(np.zeros((1, 1)), np.ones((1, 1)), 0), UsageError, "recall depth 0"),
        (lambda: video_to_texts(np.full((1, 1), np.nan), np.array([0])), UsageError, "NaN"),
        (
            lambda: retrieval_table(np.zeros((1, 1)), np.ones((1, 1)), (1, -5)),
            UsageError,
            "recall depth -5",
        ),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
