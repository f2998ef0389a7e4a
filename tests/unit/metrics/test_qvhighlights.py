"""QVHighlights: official output for the official sample, and its rules on small cases."""

import json

import numpy as np
import pytest

from support.score_tables import qvhighlights
from support.shared_data import SHARED
from vla.errors import ShapeError, UsageError
from vla.metrics.highlights import clip_ratings
from vla.metrics.qvhighlights import first_ious

SAMPLE = SHARED / "eval" / "moment_detr" / "sample_val_preds.jsonl"
PRINTED = SHARED / "eval" / "moment_detr" / "sample_val_preds_metrics_raw.json"
TRUTH = SHARED / "annotations" / "qvhighlights" / "highlight_val_release.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.skipif(
    not (SAMPLE.exists() and TRUTH.exists()), reason=f"shared data: no official sample at {SAMPLE}"
)
def test_matches_official_output_on_official_sample():
    """Moment-DETR's predictions for the validation set: all 104 figures, to the last printed digit."""
    predicted, truth = {row["qid"]: row for row in lines(SAMPLE)}, lines(TRUTH)
    rows = [predicted[row["qid"]] for row in truth]
    got = qvhighlights(
        [np.array(row["pred_relevant_windows"]) for row in rows],
        [np.array(row["relevant_windows"]) for row in truth],
        [np.array(row["pred_saliency_scores"]) for row in rows],
        [
            clip_ratings(int(row["duration"] / 2), row["relevant_clip_ids"], row["saliency_scores"])
            for row in truth
        ],
    )
    assert got == json.loads(PRINTED.read_text("utf-8"))


def test_by_hand():
    truths = [np.array([[0.0, 8.0], [20.0, 60.0]]), np.array([[10.0, 30.0]])]
    predictions = [
        np.array([[20.0, 50.0, 0.2], [0.0, 8.0, 0.9]]),  # listed first: IoU 3/4 with the long one
        np.array([[10.0, 24.0, 0.5]]),  # 14/20
    ]
    got = qvhighlights(predictions, truths)
    assert got["full"]["MR-R1"] == {
        **dict.fromkeys(("0.5", "0.55", "0.6", "0.65", "0.7"), 100.0),
        "0.75": 50.0,
    } | dict.fromkeys(("0.8", "0.85", "0.9", "0.95"), 0.0)
    # 0.8: the first query finds one of two, first by score: precision 1 at recall 1/2.
    assert [got["full"]["MR-mAP"][x] for x in ("0.5", "0.75", "0.8")] == [100.0, 50.0, 25.0]
    assert got["full"]["MR-mAP"]["average"] == pytest.approx((5 * 100 + 50 + 4 * 25) / 10)
    # Short: only the first query's first window counts, its other prediction is wrong but scores less.
    assert got["short"]["MR-mAP"]["average"] == 100.0 and got["short"]["MR-R1"]["0.5"] == 0.0
    # Long: found second by score, behind the one on the short window: precision 1/2 up to 0.75.
    assert [got["long"]["MR-mAP"][x] for x in ("0.5", "0.75", "0.8")] == [50.0, 50.0, 0.0]
    assert got["middle"]["MR-R1"]["0.7"] == 100.0
    assert got["brief"]["MR-short-mAP"] == 100.0 and got["brief"]["MR-full-R1@0.7"] == 100.0


def test_duration_ranges_are_half_open():
    truths = [np.array([[0.0, 10.0]]), np.array([[0.0, 30.0]]), np.array([[0.0, 150.0]])]
    perfect = [np.column_stack([spans, [1.0]]) for spans in truths]
    got = qvhighlights(perfect, truths)
    assert all(
        got[name]["MR-mAP"]["average"] == 100.0 for name in ("short", "middle", "long", "full")
    )
    assert set(qvhighlights(perfect[:1], truths[:1])) == {"brief", "full", "short"}


def test_rounds_like_official_output():
    truths = [np.array([[0.0, 2.0]])] * 3
    predictions = [np.array([[0.0, 2.0, 1.0]]), np.array([[4.0, 6.0, 1.0]]), np.zeros((0, 3))]
    got = qvhighlights(predictions, truths)
    assert got["brief"]["MR-full-mAP"] == got["brief"]["MR-full-R1@0.5"] == 33.33


def test_first_iou_uses_best_true_window():
    truths = [np.array([[0.0, 4.0], [2.0, 6.0]])] * 2
    predictions = [np.array([[2.0, 5.0, 0.1], [0.0, 4.0, 0.9]]), np.zeros((0, 3))]
    assert first_ious(predictions, truths).tolist() == [0.75, 0.0]
    assert first_ious([np.array([[3.0, 3.0, 1.0]])], [np.array([[3.0, 3.0]])]).tolist() == [0.0]


def test_highlights_of_two_clips():
    ratings = [clip_ratings(2, [0], [[4, 3, 2]])]
    got = qvhighlights(
        [np.array([[0, 2, 1.0]])], [np.array([[0.0, 2.0]])], [np.array([0.1, 0.2])], ratings
    )
    assert got["HL-min-Fair"] == {"HL-mAP": 50.0, "HL-Hit1": 0.0}
    assert got["HL-min-Good"] == {"HL-mAP": 33.33, "HL-Hit1": 0.0}
    assert (
        got["brief"]["HL-min-VeryGood-mAP"] == 16.67 and got["brief"]["HL-min-VeryGood-Hit1"] == 0.0
    )


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: qvhighlights([], []), UsageError, "0 of 0"),
        (lambda: qvhighlights([np.ones((1, 3))], [np.array([0.0, 2.0])]), ShapeError, "(2,)"),
        (
            lambda: qvhighlights([np.ones((1, 3))], [np.array([[2.0, 0.0]])]),
            UsageError,
            "[2.0, 0.0]",
        ),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
