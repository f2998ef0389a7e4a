"""Contract of pair losses: equality with a naive double loop, gradients, order, and bfloat16."""

import math

import pytest
import torch

from vla.errors import ShapeError, UsageError
from vla.losses import registry

PAIRS = [name for name in registry.names() if registry.get(name).kind == "pairs"]
INF = math.inf


def log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def columns(matrix):
    return [list(column) for column in zip(*matrix, strict=True)]


def naive_both_ways(scores, positives, of_row):
    directions = []
    for matrix, weights in ((scores, positives), (columns(scores), columns(positives))):
        losses = []
        for row, row_weights in zip(matrix, weights, strict=True):
            pairs = [(s, float(w)) for s, w in zip(row, row_weights, strict=True) if s != -INF]
            if sum(w for _, w in pairs) > 0:
                losses.append(of_row(pairs))
        directions.append(sum(losses) / len(losses) if losses else 0.0)
    return sum(directions) / 2


def naive_infonce(scores, positives):
    def of_row(pairs):
        total = sum(w for _, w in pairs)
        return sum(w / total * (log_sum_exp([s for s, _ in pairs]) - s) for s, w in pairs)

    return naive_both_ways(scores, positives, of_row)


REFERENCES = {
    "infonce": naive_infonce,
}


def reference(name):
    assert name in REFERENCES, (
        f"loss {name!r} brings no reference: write its double loop into {__file__}"
    )
    return REFERENCES[name]


def matrix(rows, cols, seed, spread=3.0):
    return (
        torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        * spread
    )


def cases():
    """Scores and positives: one each, several each, weights, rows and columns without any, pairs left out, ties."""
    several = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)
    weights = torch.tensor(
        [[0.7, 0.1, 0.0, 0.0, 0.2], [0.0, 2.0, 0.5, 0.0, 0.0], [0.3, 0.0, 0.0, 1.0, 4.0]]
    )
    lonely = several.clone()
    lonely[2] = False
    lonely[:, 0] = False
    holes = matrix(3, 5, 4)
    holes[0, 3] = holes[1, 0] = holes[2, 2] = -INF
    barred = matrix(3, 5, 5)
    barred[0, 0] = -INF  # a positive that may not be compared
    barred[2] = -INF  # a row of nothing
    barred[:, 1] = -INF
    return {
        "one each": (matrix(4, 4, 0), torch.eye(4, dtype=torch.bool)),
        "several": (matrix(3, 5, 1), several),
        "weights": (matrix(3, 5, 2), weights.double()),
        "lonely": (matrix(3, 5, 3), lonely),
        "holes": (holes, several),
        "barred": (barred, several),
        "ties": (torch.ones(3, 5, dtype=torch.float64), several),
        "sharp": (matrix(4, 4, 6, spread=100.0), torch.eye(4, dtype=torch.bool)),
        "none": (matrix(2, 2, 7), torch.zeros(2, 2, dtype=torch.bool)),
    }


CASES = cases()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PAIRS)
def test_pair_loss_is_the_naive_double_loop(name, case):
    scores, positives = CASES[case]
    got = registry.build(name)(scores, positives)
    assert got.dtype == torch.float64
    assert got.shape == ()
    assert got.item() == pytest.approx(
        reference(name)(scores.tolist(), positives.tolist()), abs=1e-10, rel=1e-10
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PAIRS)
def test_pair_loss_has_its_gradient(name, case):
    scores, positives = CASES[case]
    loss, fixed = registry.build(name), scores == -INF
    # Differences cannot step from -inf, so those entries are put in after the variable.
    free = scores.masked_fill(fixed, 0.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x.masked_fill(fixed, -INF), positives), (free,))
    given = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(given, positives), given)
    assert gradient.isfinite().all()
    assert (gradient[fixed] == 0).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PAIRS)
def test_pair_loss_ignores_order(name, case):
    scores, positives = CASES[case]
    loss = registry.build(name)
    rows, cols = (
        torch.randperm(n, generator=torch.Generator().manual_seed(8)) for n in scores.shape
    )
    shuffled = loss(scores[rows][:, cols], positives[rows][:, cols])
    assert shuffled.item() == pytest.approx(loss(scores, positives).item(), abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PAIRS)
def test_pair_loss_in_half_precision_at_scale_100(name, low):
    cosines = matrix(16, 16, 9).tanh().to(low).requires_grad_()
    scores = cosines * 100
    loss = registry.build(name)(scores, torch.eye(16, dtype=torch.bool))
    loss.backward()
    assert loss.dtype == torch.float32
    assert cosines.grad.isfinite().all()
    exact = reference(name)(scores.double().tolist(), torch.eye(16).tolist())
    assert loss.item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_loss_closed_forms(name):
    loss = registry.build(name)
    assert loss(torch.zeros(7, 7), torch.eye(7)).item() == pytest.approx(math.log(7), rel=1e-6)
    assert loss(torch.full((1, 1), 100.0), torch.ones(1, 1)).item() == pytest.approx(0.0, abs=1e-6)
    actual = torch.full((5, 5), -100.0).fill_diagonal_(100.0)
    assert loss(actual, torch.eye(5)).item() == pytest.approx(0.0, abs=1e-6)
    assert loss(-actual, torch.eye(5)).item() > 100


@pytest.mark.parametrize("name", PAIRS)
def test_pair_loss_rejects_invalid_shapes(name):
    loss = registry.build(name)
    with pytest.raises(ShapeError, match=r"\(2, 3\) and positives \(3, 2\)"):
        loss(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(UsageError, match="negative"):
        loss(torch.zeros(2, 2), -torch.eye(2))


def test_every_loss_has_a_kind():
    assert "infonce" in PAIRS
    others = set(registry.names()) - set(PAIRS)
    assert {"segment_order", "segment_transport"} <= others
    assert {registry.get(name).kind for name in others} == {
        "sets"
    }  # test_losses_sets.py holds these
