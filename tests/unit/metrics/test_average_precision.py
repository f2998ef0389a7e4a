"""Average precision by hand and against loops written from the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ShapeError, UsageError
from vla.metrics.average_precision import THRESHOLDS, average_precisions

QUARTER = st.integers(0, 40).map(lambda n: n / 4)
SPAN = st.tuples(QUARTER, QUARTER).map(sorted).filter(lambda s: s[0] < s[1])
PREDICTION = st.tuples(SPAN, st.integers(0, 3)).map(lambda p: [*p[0], p[1] / 3])


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def naive(predicted, true, threshold, most=10):
    """VOC's average precision: greedy matching, then the best precision at this or a higher recall, at every recall."""
    taken, points, right = set(), [], 0
    for seen, (start, end, _) in enumerate(sorted(predicted[:most], key=lambda p: -p[2]), 1):
        left = [(overlap((start, end), span), j) for j, span in enumerate(true) if j not in taken]
        if left and max(left)[0] >= threshold:
            taken.add(max(left)[1])
            right += 1
        points.append((right / len(true), right / seen))
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max((p for r, p in points if r >= recall), default=0.0)
        before = recall
    return area


def test_by_hand():
    true = [np.array([[0.0, 10.0], [20.0, 30.0]])]
    # Right, wrong, right: precision 1 to recall 1/2, then 2/3.
    listed = np.array([[0, 10, 0.9], [50, 60, 0.8], [20, 30, 0.7]])
    assert average_precisions([listed], true, [0.5]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # Wrong, right, right: the 2/3 at full recall holds at 1/2 as well, where it was 1/2.
    wrong_first = np.array([[50, 60, 0.9], [0, 10, 0.8], [20, 30, 0.7]])
    assert average_precisions([wrong_first], true, [0.5]) == pytest.approx(2 / 3)
    # The second on the same span is wrong, however well it fits.
    twice = np.array([[0, 10, 0.9], [0, 10, 0.8]])
    assert average_precisions([twice], true, [0.5]) == pytest.approx(0.5)


def test_ranks_first_ten_predictions_by_score():
    true = [np.array([[0.0, 1.0]])]
    eleven = np.array([[5 + i, 6 + i, 0.1] for i in range(10)] + [[0, 1, 0.9]], dtype=float)
    assert average_precisions([eleven], true, [0.5]) == 0
    assert average_precisions([eleven], true, [0.5], max_predictions=None) == 1
    assert average_precisions([eleven[1:]], true, [0.5]) == 1


def test_prediction_matches_next_free_span():
    true = [np.array([[0.0, 10.0], [1.0, 11.0]])]
    same = np.array([[0, 10, 0.9], [0, 10, 0.8]])  # IoU 1 and 9/11
    assert average_precisions([same], true, [0.8, 0.9]).tolist() == [[1.0, 0.5]]


@given(
    st.lists(
        st.tuples(st.lists(PREDICTION, max_size=12), st.lists(SPAN, min_size=1, max_size=3)),
        min_size=1,
        max_size=3,
    )
)
@settings(deadline=None, max_examples=60)
def test_matches_naive_loop(queries):
    got = average_precisions(
        [np.array(p).reshape(-1, 3) for p, _ in queries], [np.array(t) for _, t in queries]
    )
    for row, (predicted, true) in zip(got, queries, strict=True):
        assert row == pytest.approx([naive(predicted, true, x) for x in THRESHOLDS])


@given(st.lists(PREDICTION, max_size=8), st.lists(SPAN, min_size=1, max_size=3), st.randoms())
@settings(deadline=None, max_examples=50)
def test_properties(predicted, true, random):
    rows, spans = np.array(predicted).reshape(-1, 3), [np.array(true)]
    base = average_precisions([rows], spans)[0]
    assert ((base >= 0) & (base <= 1)).all() and (
        np.diff(base) <= 1e-12
    ).all()  # stricter is never better
    assert average_precisions([rows * [1, 1, 5] + [0, 0, 2]], spans)[0] == pytest.approx(base)
    worse = np.concatenate([rows, [[90.0, 91.0, -1.0]]])
    assert average_precisions([worse], spans)[0] == pytest.approx(base)
    shuffled = [predicted[i] for i in random.sample(range(len(predicted)), len(predicted))]
    if len({p[2] for p in predicted}) == len(predicted):
        assert average_precisions([np.array(shuffled).reshape(-1, 3)], spans)[0] == pytest.approx(
            base
        )
    perfect = np.array([[*span, k] for k, span in enumerate(true)])
    assert average_precisions([perfect], spans).tolist() == [[1.0] * 10]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: average_precisions([np.ones((1, 3))], []),
            ShapeError,
            "predictions of 1 queries, but true spans of 0",
        ),
        (lambda: average_precisions([np.ones((1, 2))], [np.ones((1, 2))]), ShapeError, "(1, 2)"),
        (
            lambda: average_precisions([np.array([[0, 1, np.nan]])], [np.ones((1, 2))]),
            UsageError,
            "score nan",
        ),
        (lambda: average_precisions([np.ones((1, 3))], [np.ones((1, 2))], []), UsageError, "[]"),
        (
            lambda: average_precisions([np.ones((1, 3))], [np.ones((1, 2))], [50]),
            UsageError,
            "[50]",
        ),
        (
            lambda: average_precisions([np.ones((1, 3))], [np.ones((1, 2))], max_predictions=0),
            UsageError,
            "max_predictions 0",
        ),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
