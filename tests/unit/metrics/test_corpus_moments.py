"""Corpus moment retrieval by hand and against loops written from TVR's rules."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.score_tables import corpus_moments
from support.shared_data import SHARED
from vla.errors import ShapeError, UsageError
from vla.metrics.corpus_moments import RECALLS, THRESHOLDS, first_hit_ranks

TVR = SHARED / "annotations" / "tvr" / "tvr_val_release.jsonl"
QUARTER = st.integers(0, 24).map(lambda n: n / 4)
SPAN = st.tuples(QUARTER, QUARTER).map(sorted).filter(lambda s: s[0] < s[1])
ROW = st.tuples(st.integers(0, 2), SPAN, st.integers(-3, 3)).map(lambda r: [r[0], *r[1], r[2]])
QUERY = st.tuples(
    st.lists(ROW, max_size=7), st.integers(0, 2), st.lists(SPAN, min_size=1, max_size=5)
)


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (max(a[1], b[1]) - min(a[0], b[0]))


def naive_recall(queries, task, k, threshold):
    """Share of queries with a right one among the first k of those that the task looks at."""
    found = 0
    for rows, video, true in queries:
        looked_at = [row for row in rows if task != "SVMR" or row[0] == video][:k]
        need = 2 if len(true) >= 4 else 1
        for row in looked_at:
            reached = sum(overlap(row[1:3], span) >= threshold for span in true)
            if row[0] == video and (task == "VR" or reached >= need):
                found += 1
                break
    return round(100 * found / len(queries), 2)


def test_by_hand():
    rows = np.array([[5, 0, 10, 0.9], [7, 0, 6, 0.8], [7, 0, 9, 0.7]])
    truths = [np.array([[0.0, 10.0]])]
    assert first_hit_ranks([rows], [7], truths).tolist() == [
        [2, 3]
    ]  # the right time in another video is wrong
    assert first_hit_ranks([rows], [7], truths, "SVMR").tolist() == [[1, 2]]
    assert first_hit_ranks([rows], [7], truths, "VR").tolist() == [[2]]
    assert first_hit_ranks([rows], [8], truths).tolist() == [[np.inf, np.inf]]
    got = corpus_moments([rows, rows], [7, 5], truths * 2, types=["v", "vt"])
    assert got["0.5-r1"] == 50 and got["0.5-r5"] == got["0.7-r5"] == 100
    assert got["v-0.7-r1"] == 0 and got["vt-0.7-r1"] == 100
    assert len(got) == 3 * 8


def test_reads_first_hundred_predictions():
    wrong = np.tile([[1, 0, 10, 0.0]], (100, 1))
    late = np.concatenate([wrong, [[0, 0, 10, 0.0]]])
    truths = [np.array([[0.0, 10.0]])]
    for task in ("VCMR", "SVMR", "VR"):
        assert first_hit_ranks([late], [0], truths, task)[0, 0] == np.inf
        assert first_hit_ranks([late[1:]], [0], truths, task)[0, 0] == (
            1 if task == "SVMR" else 100
        )


def test_requires_two_of_four_annotators():
    row = np.array([[0, 0, 5, 0.0]])
    here, there = [0.0, 5.0], [20.0, 25.0]
    assert first_hit_ranks([row], [0], [np.array([here, there, there, there])])[0, 0] == np.inf
    assert first_hit_ranks([row], [0], [np.array([here, here, there, there])])[0, 0] == 1
    assert first_hit_ranks([row], [0], [np.array([here, there, there])])[0, 0] == 1


def test_single_precision_at_threshold():
    """Of many spans with an IoU of .7 but for rounding, the evaluator's float32 takes some that float64 would not."""
    ends = np.arange(1, 400) / 10
    predicted, true = np.stack([0 * ends, ends * 0.7], 1), np.stack([0 * ends, ends], 1)
    rows = [np.array([[0, a, b, 0]]) for a, b in predicted]
    got = np.isfinite(
        first_hit_ranks(rows, np.zeros(len(ends), int), [span[None] for span in true])[:, 1]
    )
    single = (np.float32(predicted[:, 1]) / np.float32(true[:, 1])) >= np.float32(0.7)
    assert got.tolist() == single.tolist()
    assert got.tolist() != (predicted[:, 1] / true[:, 1] >= 0.7).tolist()


@given(st.lists(QUERY, min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_matches_naive_loop(queries):
    predictions = [np.array(rows, float).reshape(-1, 4) for rows, _, _ in queries]
    videos, truths = [v for _, v, _ in queries], [np.array(t) for _, _, t in queries]
    for task in ("VCMR", "SVMR", "VR"):
        found = first_hit_ranks(predictions, videos, truths, task)
        for column, threshold in enumerate(THRESHOLDS[: found.shape[1]]):
            for k in RECALLS:
                value = round(100 * float((found[:, column] <= k).mean()), 2)
                assert value == naive_recall(queries, task, k, threshold), (task, k, threshold)
    for name, value in corpus_moments(predictions, videos, truths).items():
        assert value == naive_recall(
            queries, "VCMR", int(name.rsplit("r", 1)[1]), float(name[:3])
        ), name


@pytest.mark.skipif(not TVR.exists(), reason=f"shared data: no TVR annotations at {TVR}")
def test_breakdown_by_query_type_of_tvr():
    """The shares of types that the official sample output prints, and a perfect submission."""
    truth = [json.loads(line) for line in TVR.read_text("utf-8").splitlines()]
    kinds = [row["type"] for row in truth]
    assert [round(100 * kinds.count(kind) / len(kinds), 2) for kind in ("v", "t", "vt")] == [
        74.32,
        8.85,
        16.83,
    ]
    numbers = {name: number for number, name in enumerate({row["vid_name"] for row in truth})}
    videos = [numbers[row["vid_name"]] for row in truth]
    perfect = [
        np.array([[video, *row["ts"], 1.0]]) for video, row in zip(videos, truth, strict=True)
    ]
    got = corpus_moments(perfect, videos, [np.array([row["ts"]]) for row in truth], types=kinds)
    assert set(got.values()) == {100.0} and len(got) == 4 * 8


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: first_hit_ranks([np.ones((1, 3))], [0], [np.ones((1, 2))]),
            ShapeError,
            "(video, start, end, score)",
        ),
        (lambda: first_hit_ranks([np.ones((1, 4))], [0, 1], [np.ones((1, 2))]), ShapeError, "(2,)"),
        (
            lambda: first_hit_ranks([np.ones((1, 4))], [0], [np.ones((1, 2))], "MR"),
            UsageError,
            "unknown task 'MR'; available: VCMR, SVMR, VR",
        ),
        (
            lambda: first_hit_ranks([np.array([[0, 2, 1, 0]])], [0], [np.ones((1, 2))]),
            UsageError,
            "[2.0, 1.0]",
        ),
        (lambda: first_hit_ranks([], [], []), UsageError, "0 of 0"),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
