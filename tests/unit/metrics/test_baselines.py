"""Baselines against enumeration, constant scores and published figures."""

import json
from itertools import permutations

import numpy as np
import pytest

from support.score_tables import moments, qvhighlights, text_to_video, video_to_texts
from support.shared_data import SHARED
from vla.errors import ShapeError, UsageError
from vla.metrics.baselines import (
    best_count,
    corpus_chance,
    hit_chance,
    most_frequent,
    retrieval_chance,
)
from vla.metrics.moment_baselines import fit_constant_window, whole_video, window_grid

QVHIGHLIGHTS = SHARED / "annotations" / "qvhighlights"
CHARADES = SHARED / "annotations" / "charades_sta"


@pytest.mark.parametrize("relevant", [1, 2, [1, 3], [4, 1, 1]])
def test_retrieval_chance_matches_enumeration(relevant):
    got = retrieval_chance(6, relevant, (1, 2, 5, 9))
    places = []
    for right in np.atleast_1d(relevant):
        places += [
            min(order[:right]) for order in permutations(range(1, 7))
        ]  # where the right ones come to stand
    for k in (1, 2, 5, 9):
        assert got[f"R@{k}"] == pytest.approx(100 * np.mean([place <= k for place in places]))
    assert got["MnR"] == pytest.approx(np.mean(places))
    assert got["MedR"] == np.median(places)


def test_retrieval_chance_matches_constant_scores():
    scores, own = np.zeros((120, 40)), np.repeat(np.arange(40), 3)
    assert text_to_video(scores, own) == pytest.approx(retrieval_chance(40))
    got, expected = video_to_texts(scores, own), retrieval_chance(120, np.full(40, 3))
    assert [got[f"R@{k}"] for k in (1, 5, 10)] == pytest.approx(
        [expected[f"R@{k}"] for k in (1, 5, 10)]
    )
    assert retrieval_chance(1000)["MnR"] == 500.5 and retrieval_chance(1000)["MedR"] == 500.5
    assert retrieval_chance(3, 3) == {"R@1": 100, "R@5": 100, "R@10": 100, "MedR": 1, "MnR": 1}


def test_other_chances_by_hand():
    assert most_frequent(["a", "b", "b", "a", "c"]) == "a" and most_frequent([3, 2, 2]) == 2
    assert best_count([2, 3, 3, 10]) == 4 and best_count([0, 0]) == 1
    ratings = [np.array([[4, 0, 0], [0, 0, 4], [3, 3, 3], [0, 0, 0]]), np.array([[0, 0, 0]])]
    assert hit_chance(ratings, 4) == 25 and hit_chance(ratings, 3) == 37.5
    assert corpus_chance(50, {"0.5": 30.0})["0.5-r5"] == pytest.approx(3.0)
    assert corpus_chance(50, {"0.5": 30.0})["0.5-r100"] == 30.0


def test_windows_by_hand():
    assert whole_video([8.0])[0].tolist() == [[0, 8, 0]]
    assert window_grid([12.0], (1, 3))[0].tolist() == [
        [0, 12, 0],
        [0, 4, -1],
        [4, 8, -2],
        [8, 12, -3],
    ]
    assert len(window_grid([12.0])[0]) == 10


@pytest.mark.parametrize("seed", range(6))
def test_constant_window_is_best_on_grid(seed):
    draw = np.random.default_rng(seed)
    durations = draw.uniform(10, 60, 30)
    truths = [np.sort(draw.uniform(0, d, (draw.integers(1, 4), 2)), axis=1) for d in durations]
    fitted = fit_constant_window(truths, durations, steps=5)
    found = {}
    for start in range(5):
        for end in range(start + 1, 6):
            rows = [np.array([[start / 5 * d, end / 5 * d, 1]]) for d in durations]
            found[start / 5, end / 5] = moments(rows, truths)["R1@0.5"]
    assert found[fitted.part] == max(found.values())
    assert moments(fitted.predict(durations), truths)["R1@0.5"] == max(found.values())


def test_windows_by_position():
    """First captions tell the first half, second ones the last quarter; a third was never seen."""
    durations, positions = np.full(8, 20.0), np.array([0, 1] * 4)
    truths = [np.array([[0.0, 10.0]]) if p == 0 else np.array([[15.0, 20.0]]) for p in positions]
    truths[7] = np.array([[0.0, 10.0]])
    fitted = fit_constant_window(truths, durations, positions, threshold=1.0)
    assert (fitted.part, dict(fitted.by_position)) == ((0, 0.5), {0: (0, 0.5), 1: (0.75, 1)})
    got = fitted.predict([20.0, 40.0, 60.0], [0, 1, 2])
    assert [row[0].tolist() for row in got] == [[0, 10, 1], [30, 40, 1], [0, 30, 1]]
    assert fitted.predict([20.0])[0].tolist() == [[0, 10, 1]]


def annotated(path):
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [np.array(row["relevant_windows"]) for row in rows], [row["duration"] for row in rows]


@pytest.mark.skipif(
    not CHARADES.exists(), reason=f"shared data: no Charades-STA annotations at {CHARADES}"
)
def test_baselines_on_charades():
    """Known from elsewhere: the best constant window is the first 30 %, and better than models without training."""
    fitted = fit_constant_window(*annotated(CHARADES / "charades_train_release.jsonl"))
    assert fitted.part == (0, 0.3)
    truths, durations = annotated(CHARADES / "charades_test_release.jsonl")
    found = {
        name: moments(rows, truths)
        for name, rows in (
            ("whole", whole_video(durations)),
            ("constant", fitted.predict(durations)),
        )
    }
    rounded = {
        name: [round(m[k], 2) for k in ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU")]
        for name, m in found.items()
    }
    assert rounded == {"whole": [35.0, 0.43, 0.0, 27.13], "constant": [40.3, 30.65, 15.16, 28.07]}


@pytest.mark.skipif(
    not QVHIGHLIGHTS.exists(), reason=f"shared data: no QVHighlights annotations at {QVHIGHLIGHTS}"
)
def test_baselines_on_qvhighlights():
    """Those that the official evaluator gave; ten windows of a grid beat the published zero-shot mAP of 7.67."""
    truths, durations = annotated(QVHIGHLIGHTS / "highlight_val_release.jsonl")
    for rows, figures in (
        (whole_video(durations), [8.01, 5.17, 5.58]),
        (window_grid(durations), [19.25, 9.48, 10.93]),
    ):
        brief = qvhighlights(rows, truths)["brief"]
        assert [brief[f"MR-full-{name}"] for name in ("mAP@0.5", "mAP@0.75", "mAP")] == figures
        assert [brief["MR-full-R1@0.5"], brief["MR-full-R1@0.7"]] == [9.03, 6.06]
    fitted = fit_constant_window(*annotated(QVHIGHLIGHTS / "highlight_train_release.jsonl"))
    assert fitted.part == (0.5, 1)
    constant = moments(fitted.predict(durations), truths)
    assert [round(constant[k], 2) for k in ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU")] == [
        29.94,
        14.77,
        4.45,
        21.81,
    ]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: retrieval_chance(5, 6), UsageError, "items 6 "),
        (lambda: retrieval_chance(5, []), UsageError, "relevant items []"),
        (lambda: retrieval_chance(5, 1, (0,)), UsageError, "at least 1"),
        (lambda: corpus_chance(0, {}), UsageError, "videos 0"),
        (lambda: most_frequent([]), UsageError, "no answers"),
        (lambda: best_count([]), UsageError, "no answers"),
        (lambda: hit_chance([], 4), UsageError, "no queries"),
        (lambda: whole_video([[1.0]]), ShapeError, "(1, 1)"),
        (lambda: whole_video([1.0, 0.0]), UsageError, "duration 0.0"),
        (lambda: window_grid([1.0], ()), UsageError, "[]"),
        (lambda: fit_constant_window([np.ones((1, 2))], [1.0, 2.0]), ShapeError, "2 queries"),
        (lambda: fit_constant_window([np.ones((1, 2))], [1.0], [0, 1]), ShapeError, "(2,)"),
        (lambda: fit_constant_window([np.ones((1, 2))], [1.0], threshold=50), UsageError, "50"),
        (lambda: fit_constant_window([], []), UsageError, "0 of 0"),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
