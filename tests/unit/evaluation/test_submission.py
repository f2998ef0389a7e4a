"""Submission files: round trips by the rules of their readers."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.score_tables import qvhighlights
from support.shared_data import SHARED
from vla.errors import ShapeError, UsageError
from vla.evaluation.submission import write_nextqa, write_qvhighlights, write_tvr
from vla.metrics.corpus_moments import first_hit_ranks

SAMPLE = SHARED / "eval" / "moment_detr" / "sample_val_preds.jsonl"
SCORE = st.floats(-1e6, 1e6)
WINDOW = st.tuples(st.floats(0, 75), st.floats(75, 150), SCORE).map(list)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def moments(**changed):
    return {
        "qid": 1,
        "query": "a dog",
        "vid": "x_0_150",
        "pred_relevant_windows": [[0, 2, 0.5]],
    } | changed


def corpus(**changed):
    return {"desc_id": 1, "desc": "a dog", "predictions": [[7, 0, 2, 0.5]]} | changed


def question(**changed):
    return {"video": "40100", "qid": "6", "prediction": 2} | changed


@given(
    st.lists(
        st.tuples(st.lists(WINDOW, min_size=1, max_size=12), st.lists(SCORE, min_size=1)),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=15)
def test_qvhighlights_round_trip(tmp_path_factory, queries):
    path = tmp_path_factory.mktemp("hl") / "hl_val_submission.jsonl"
    records = [
        moments(
            qid=np.int64(n), pred_relevant_windows=np.array(w), pred_saliency_scores=np.array(s)
        )
        for n, (w, s) in enumerate(queries)
    ]
    write_qvhighlights(path, records)
    for n, (row, (windows, scores)) in enumerate(zip(lines(path), queries, strict=True)):
        expected = sorted(windows, key=lambda w: -w[2])
        assert row == moments(qid=n, pred_relevant_windows=expected, pred_saliency_scores=scores)


def test_windows_are_sorted_by_score(tmp_path):
    write_qvhighlights(
        tmp_path / "s.jsonl", [moments(pred_relevant_windows=[[50, 60, 0.1], [0, 10, 0.9]])]
    )
    windows = np.array(lines(tmp_path / "s.jsonl")[0]["pred_relevant_windows"])
    assert qvhighlights([windows], [np.array([[0.0, 10.0]])])["brief"]["MR-full-R1@0.7"] == 100
    assert "pred_saliency_scores" not in lines(tmp_path / "s.jsonl")[0]


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"shared data: no official sample at {SAMPLE}")
def test_official_sample_round_trip(tmp_path):
    write_qvhighlights(tmp_path / "s.jsonl", lines(SAMPLE))
    assert lines(tmp_path / "s.jsonl") == lines(SAMPLE)


def test_tvr_round_trip(tmp_path):
    draw = np.random.default_rng(0)
    numbers = {"castle_1": 7, "friends_2": 9}
    lists = [
        np.column_stack(
            [draw.choice([7, 9], 130), np.sort(draw.random((130, 2))), draw.random(130)]
        )
        for _ in range(3)
    ]
    records = [corpus(desc_id=n, predictions=rows) for n, rows in enumerate(lists)]
    write_tvr(tmp_path / "t.json", numbers, {"VR": records, "VCMR": records})
    read = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert list(read) == ["video2idx", "VCMR", "VR"] and read["video2idx"] == numbers
    for record, rows in zip(read["VCMR"], lists, strict=True):
        best = rows[np.argsort(-rows[:, 3])][:100]
        assert record["predictions"] == best.tolist() and all(
            isinstance(p[0], int) for p in record["predictions"]
        )
    found = first_hit_ranks(
        [np.array(r["predictions"]) for r in read["VR"]],
        [7, 9, 7],
        [np.array([[0.0, 1.0]])] * 3,
        "VR",
    )
    assert (found <= 100).all()


@pytest.mark.parametrize("answers", [{}, {"answer": 1}])
def test_nextqa_round_trip(tmp_path, answers):
    records = [question(**answers), question(qid=7, prediction=np.int64(0), **answers)]
    write_nextqa(tmp_path / "r.json", records)
    read = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert read == {
        "40100_6": {"prediction": 2, **answers},
        "40100_7": {"prediction": 0, **answers},
    }
    write_nextqa(tmp_path / "r.csv", records)
    with (tmp_path / "r.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = {key: str(value) for key, value in answers.items()}
    assert rows == [
        {"video": "40100", "qid": "6", "prediction": "2", **texts},
        {"video": "40100", "qid": "7", "prediction": "0", **texts},
    ]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda p: write_qvhighlights(p, []), UsageError, "no records"),
        (lambda p: write_qvhighlights(p, [{"qid": 1}]), UsageError, "record 0 has no 'query'"),
        (lambda p: write_qvhighlights(p, [moments(), moments()]), UsageError, "qid 1 is repeated"),
        (
            lambda p: write_qvhighlights(p, [moments(pred_relevant_windows=[])]),
            UsageError,
            "qid 1 has no prediction",
        ),
        (
            lambda p: write_qvhighlights(p, [moments(pred_relevant_windows=[[0, 1]])]),
            ShapeError,
            "(1, 2)",
        ),
        (
            lambda p: write_qvhighlights(p, [moments(pred_relevant_windows=[[0, 1, np.nan]])]),
            UsageError,
            "nan",
        ),
        (
            lambda p: write_qvhighlights(p, [moments(pred_saliency_scores=[np.nan])]),
            UsageError,
            "finite",
        ),
        (
            lambda p: write_qvhighlights(p, [moments(pred_saliency_scores=[[1.0]])]),
            ShapeError,
            "(1, 1)",
        ),
        (
            lambda p: write_qvhighlights(
                p, [moments(), moments(qid=2, pred_saliency_scores=[1.0])]
            ),
            UsageError,
            "or none",
        ),
        (
            lambda p: write_tvr(p, {"a": 7}, {}),
            UsageError,
            "invalid tasks []: a submission has one or more of VCMR, SVMR, VR",
        ),
        (lambda p: write_tvr(p, {"a": 7}, {"MR": [corpus()]}), UsageError, "['MR']"),
        (
            lambda p: write_tvr(p, {"a": 8}, {"VCMR": [corpus()]}),
            UsageError,
            "desc_id 1 predicts video 7",
        ),
        (
            lambda p: write_tvr(p, {"a": 7}, {"VCMR": [corpus(), corpus()]}),
            UsageError,
            "desc_id 1 is repeated",
        ),
        (lambda p: write_nextqa(p, [question()]), UsageError, "invalid file name 'out.txt'"),
        (
            lambda p: write_nextqa(p, [question(), question()]),
            UsageError,
            "question 40100_6 is repeated",
        ),
        (lambda p: write_nextqa(p, [question(prediction=-1)]), UsageError, "invalid choice -1"),
        (lambda p: write_nextqa(p, [question(prediction="a dog")]), UsageError, "'a dog'"),
        (lambda p: write_nextqa(p, [question(), question(qid=7, answer=1)]), UsageError, "or none"),
    ],
)
def test_rejects_invalid_records_without_file(tmp_path, call, kind, message):
    with pytest.raises(kind) as caught:
        call(tmp_path / "out.txt")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []
