"""Accuracies, counts and grounded answers by hand and against loops written from the official scripts' rules."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.score_tables import accuracy, counting, grounding
from support.shared_data import SHARED
from vla.errors import ShapeError, UsageError
from vla.metrics.grounding import grounding_scores, iou_and_iop
from vla.metrics.question_answering import exact_match, soft_accuracy

NEXTQA = SHARED / "annotations" / "nextqa" / "val.csv"
NEXTGQA = SHARED / "annotations" / "nextqa" / "nextgqa_gsub_val.json"
TIME = st.integers(0, 16).map(lambda n: n / 4)
SPAN = st.tuples(TIME, TIME).map(sorted)
QUESTION = st.tuples(
    st.booleans(), SPAN, st.lists(SPAN.filter(lambda s: s[0] < s[1]), min_size=1, max_size=3)
)


def test_exact_match_is_literal():
    assert exact_match([2, 0, 1], [2, 1, 1]).tolist() == [True, False, True]
    assert exact_match(["dog", "Dog", "a dog"], ["dog"] * 3).tolist() == [True, False, False]


def test_soft_accuracy_needs_two_annotators():
    given = ["dog", "dog", "dog", "puppy", "animal"]
    assert soft_accuracy(["dog", "puppy", "cat"], [given] * 3).tolist() == [1, 0.5, 0]


def test_nextqa_by_hand():
    types = ["CW", "CW", "CH", "TN", "TP", "TC", "DO", "DL", "DL"]
    right = [True, False, True, True, False, True, False, True, True]
    assert accuracy(right, types) == {
        "CW": 50, "CH": 100, "C": 66.67, "TN": 50, "TC": 100, "T": 66.67, "DO": 0, "DL": 100, "D": 66.67, "all": 66.67
    }  # fmt: skip
    assert (
        accuracy(right, [*types[:-1], "other"])["TP"] == 0
    )  # all types together are no longer NExT-QA's


def test_overall_accuracy_weights_questions_equally():
    got = accuracy([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert got == {"a": 100, "b": 0, "all": 75}
    assert accuracy([0.5, 1], ["x", "x"]) == {"x": 75, "all": 75}


@pytest.mark.skipif(not NEXTQA.exists(), reason=f"shared data: no NExT-QA annotations at {NEXTQA}")
def test_nextqa_validation_set():
    """Every type of the published file has its group, and a group's accuracy is that of its questions."""
    with NEXTQA.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    choices = [[row[f"a{k}"] for k in range(5)] for row in rows]
    answers = [
        int(row["answer"]) if row["answer"].isdigit() else c.index(row["answer"])
        for row, c in zip(rows, choices, strict=True)
    ]
    types = [row["type"] for row in rows]
    assert set(accuracy(exact_match(answers, answers), types).values()) == {100.0}
    first = accuracy(exact_match([0] * len(rows), answers), types)
    for group in "CTD":
        asked = [a for a, t in zip(answers, types, strict=True) if t[0] == group]
        assert first[group] == round(100 * asked.count(0) / len(asked), 2)


def test_predicted_counts_round_half_to_even_and_clip():
    got = counting([2.5, 3.5, -4, 99, 2.49], [2, 4, 1, 10, 3])
    assert got == {"MSE": 0.2, "accuracy": 80}
    assert counting([0.0], [0]) == {"MSE": 1, "accuracy": 0}  # nobody can say 0


def naive_grounding(questions):
    """The official loop: the best IoU and the best IoP over true spans, each for itself."""
    ious, iops = [], []
    for _, (start, end), true in questions:
        best_iou, best_iop = 0.0, 0.0
        for low, high in true:
            if start == end:
                iou, iop = 0.0, float(low <= start <= high)
            else:
                shared = min(end, high) - max(start, low)
                iou, iop = shared / (max(end, high) - min(start, low)), shared / (end - start)
            best_iou, best_iop = max(best_iou, iou), max(best_iop, iop)
        ious.append(best_iou)
        iops.append(best_iop)
    return ious, iops


@given(st.lists(QUESTION, min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_grounding_matches_naive_loop(questions):
    right, spans = [q[0] for q in questions], np.array([q[1] for q in questions])
    truths = [np.array(q[2]) for q in questions]
    ious, iops = naive_grounding(questions)
    got = iou_and_iop(spans, truths)
    assert got[0].tolist() == pytest.approx(ious) and got[1].tolist() == pytest.approx(iops)
    table = grounding(right, spans, truths)
    n = len(questions)
    assert table["Acc@GQA"] == round(
        100 * sum(r and p >= 0.5 for r, p in zip(right, iops, strict=True)) / n, 1
    )
    assert table["Acc@QA"] == round(100 * sum(right) / n, 1)
    assert table["IoU@0.3"] == round(100 * sum(i >= 0.3 for i in ious) / n, 1)
    assert table["mIoP"] == pytest.approx(100 * sum(iops) / n, abs=0.0501)
    # A span inside the evidence is all precise, and a wrong answer is never grounded.
    assert grounding(np.zeros(n), spans, truths)["Acc@GQA"] == 0


def test_grounding_by_hand():
    spans = np.array([[2.0, 4.0], [0.0, 10.0], [5.0, 5.0], [8.0, 9.0]])
    truths = [
        np.array([[0.0, 10.0]]),
        np.array([[0.0, 4.0], [6.0, 9.0]]),
        np.array([[1.0, 5.0]]),
        np.array([[1.0, 2.0]]),
    ]
    assert grounding([True, True, False, True], spans, truths) == {
        "Acc@GQA": 25.0, "mIoP": 60.0, "IoP@0.3": 75.0, "IoP@0.5": 50.0, "mIoU": 15.0, "IoU@0.3": 25.0, "IoU@0.5": 0.0,
        "Acc@QA": 75.0,
    }  # fmt: skip


def test_spans_without_length_have_no_iou():
    """The same instant as prediction and truth: nothing is shared of nothing, yet the one is inside the other."""
    spans = np.array([[5.0, 5.0], [5.0, 5.0], [4.0, 6.0], [5.0, 5.0]])
    truths = [
        np.array(rows) for rows in ([[5.0, 5.0]], [[6.0, 6.0]], [[5.0, 5.0]], [[5, 5], [4, 6]])
    ]
    ious, iops = iou_and_iop(spans, truths)
    assert (ious.tolist(), iops.tolist()) == ([0, 0, 0, 0], [1, 0, 0, 1])


@pytest.mark.skipif(
    not NEXTGQA.exists(), reason=f"shared data: no NExT-GQA annotations at {NEXTGQA}"
)
def test_nextgqa_validation_spans():
    """The evidence itself is all right; the whole video is as precise as the evidence is long."""
    videos = json.loads(NEXTGQA.read_text("utf-8")).values()
    truths = [np.array(spans) for video in videos for spans in video["location"].values()]
    whole = np.array([[0, video["duration"]] for video in videos for _ in video["location"]], float)
    perfect = grounding(np.ones(len(truths)), np.array([spans[0] for spans in truths]), truths)
    assert set(perfect.values()) == {100.0}
    assert iou_and_iop(whole, truths)[1] == pytest.approx(iou_and_iop(whole, truths)[0], abs=0.05)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: exact_match([1], [1, 2]),
            ShapeError,
            "predictions of 1 questions, but answers of 2",
        ),
        (lambda: exact_match([], []), UsageError, "no questions"),
        (lambda: exact_match(["1"], [1]), UsageError, "'1' and answer 1"),
        (lambda: soft_accuracy(["a"], [[]]), UsageError, "1 of 1"),
        (lambda: iou_and_iop(np.zeros((1, 3)), [np.ones((1, 2))]), ShapeError, "(1, 3)"),
        (lambda: iou_and_iop(np.array([[2, 1]]), [np.ones((1, 2))]), UsageError, "[2.0, 1.0]"),
        (lambda: iou_and_iop(np.zeros((1, 2)), [np.zeros((0, 2))]), UsageError, "1 of 1"),
        (
            lambda: grounding_scores([True], np.zeros((2, 2)), [np.ones((1, 2))] * 2),
            ShapeError,
            "(1,)",
        ),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
