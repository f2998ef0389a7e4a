"""Moment metrics by hand and against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.score_tables import moments
from vla.errors import ShapeError, UsageError
from vla.metrics.moments import best_ious, pad_spans

KEYS = ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.5", "R5@0.7", "mIoU")
QUARTER = st.integers(0, 40).map(lambda n: n / 4)
SPAN = st.tuples(QUARTER, QUARTER).map(sorted)


def rows(*spans):
    """Predictions with falling scores."""
    return np.array(
        [[start, end, -k] for k, (start, end) in enumerate(spans)], dtype=float
    ).reshape(-1, 3)


def test_metrics_by_hand():
    predictions = [
        rows((0, 10)),  # IoU 1
        rows((0, 5), (0, 10)),  # 1/2 at first, 1 among five
        rows(
            (0, 4), (20, 30), (0, 6), (1, 2), (3, 4), (0, 10)
        ),  # 4/10, 6/10 among five, the sixth too late
        rows(),  # a miss
    ]
    truths = [np.array([[0.0, 10.0]])] * 4
    expected = (75.0, 50.0, 25.0, 75.0, 50.0, 100 * (1 + 0.5 + 0.4) / 4)
    assert moments(predictions, truths) == pytest.approx(dict(zip(KEYS, expected, strict=True)))


def test_perfect_and_disjoint_predictions():
    truths = [np.array([[1.0, 2.0], [5.0, 9.0]]), np.array([[0.0, 3.0]])]
    perfect = [np.array([[5.0, 9.0, 0.1]]), np.array([[0.0, 3.0, 0.9]])]
    assert moments(perfect, truths) == dict.fromkeys(KEYS, 100.0)
    nothing = [np.array([[3.0, 4.0, 0.9]]), np.zeros((0, 3))]
    assert moments(nothing, truths) == dict.fromkeys(KEYS, 0.0)


def test_order_of_predictions_decides():
    truth = [np.array([[0.0, 4.0]])]
    listed = [np.array([[0.0, 4.0, 0.1], [8.0, 9.0, 0.9]])]
    assert moments(listed, truth)["R1@0.7"] == 100.0
    assert moments([listed[0][::-1]], truth)["R1@0.7"] == 0.0


def test_iou_equal_to_threshold_counts():
    assert moments([rows((0, 7))], [np.array([[0.0, 10.0]])])["R1@0.7"] == 100.0


def test_padding():
    got = pad_spans([np.array([[0, 1], [2, 3]]), np.array([[4.0, 5.0]])])
    assert (
        got[0].tolist() == [[0, 1], [2, 3]]
        and got[1, 0].tolist() == [4, 5]
        and np.isnan(got[1, 1]).all()
    )
    assert pad_spans([]).shape == (0, 0, 2)
    with pytest.raises(ShapeError, match="query 1"):
        pad_spans([np.ones((1, 2)), np.ones((1, 3))])
    with pytest.raises(UsageError, match=r"\[3.0, 2.0\]"):
        pad_spans([np.array([[3, 2]])])


@given(
    st.lists(
        st.tuples(st.lists(SPAN, max_size=7), st.lists(SPAN, min_size=1, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None)
def test_metrics_match_naive_loop(queries):
    found = {1: [], 5: []}
    for predicted, true in queries:
        for n, best in found.items():
            ious = [0.0]
            for a, b in predicted[:n]:
                for c, d in true:
                    shared = max(0.0, min(b, d) - max(a, c))
                    covered = b - a + d - c - shared
                    ious.append(shared / covered if covered else 0.0)
            best.append(max(ious))
    predictions, truths = [rows(*p) for p, _ in queries], [np.array(t) for _, t in queries]
    metrics = moments(predictions, truths)
    for name in KEYS[:-1]:
        n, threshold = int(name[1]), float(name[3:])
        assert metrics[name] == pytest.approx(
            100 * sum(i >= threshold for i in found[n]) / len(queries)
        )
    assert metrics["mIoU"] == pytest.approx(100 * sum(found[1]) / len(queries))
    assert best_ious(predictions, truths, 5).tolist() == found[5]


@pytest.mark.parametrize(
    ("predictions", "truths", "kind", "message"),
    [
        ([rows((0, 1))], [], ShapeError, "predictions of 1 queries, but true spans of 0"),
        ([], [], UsageError, "0 of 0"),
        (
            [rows()] * 2,
            [np.ones((1, 2)), np.zeros((0, 2))],
            UsageError,
            "1 of 2 queries have no true span",
        ),
        ([np.ones((4, 2))], [np.ones((1, 2))], ShapeError, "(4, 2)"),
        ([rows((2, 1))], [np.ones((1, 2))], UsageError, "[2.0, 1.0]"),
        ([rows((0, np.nan))], [np.ones((1, 2))], UsageError, "nan"),
    ],
)
def test_rejects_invalid_arguments(predictions, truths, kind, message):
    with pytest.raises(kind) as caught:
        moments(predictions, truths)
    assert message in str(caught.value)
