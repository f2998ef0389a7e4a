"""Every loss over sets equals naive loops, has the gradient of its fixed alignment, and ignores order and padding.

A new one joins by existing; it must bring its reference: `REFERENCES[name]`, loops and `math` only.
"""

import math

import pytest
import torch

from vla.errors import ShapeError, UsageError
from vla.losses import registry

SETS = [name for name in registry.names() if registry.get(name).kind == "sets"]


def log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def naive_plan(similarity, n, m, temperature, dustbin, iterations):
    """Sinkhorn as a text book has it: rows, then columns, of n segments and m sentences and a dustbin each."""
    energy = [
        [(similarity[i][j] if i < n and j < m else dustbin) / temperature for j in range(m + 1)]
        for i in range(n + 1)
    ]
    rows, cols = [0.0] * n + [math.log(m)], [0.0] * m + [math.log(n)]
    v = list(cols)
    for _ in range(iterations):
        u = [
            rows[i] - log_sum_exp([energy[i][j] + v[j] for j in range(m + 1)]) for i in range(n + 1)
        ]
        v = [
            cols[j] - log_sum_exp([energy[i][j] + u[i] for i in range(n + 1)]) for j in range(m + 1)
        ]
    return [[math.exp(energy[i][j] + u[i] + v[j]) for j in range(m)] for i in range(n)]


def naive_quantile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def naive_dustbin(similarity, segments, sentences, quantile=0.3):
    videos = range(len(segments))
    best = [
        max(similarity[v][v][i][j] for i in range(segments[v]))
        for v in videos
        for j in range(sentences[v])
    ]
    return naive_quantile(best, quantile)


def naive_plans(similarity, segments, sentences, temperature=0.03, iterations=50):
    videos = range(len(segments))
    dustbin = naive_dustbin(similarity, segments, sentences)
    return [
        [
            naive_plan(
                similarity[v][t], segments[v], sentences[t], temperature, dustbin, iterations
            )
            for t in videos
        ]
        for v in videos
    ]


def naive_both_ways(scores):
    own = sum(scores[v][v] for v in range(len(scores)))
    columns = list(zip(*scores, strict=True))
    return (sum(map(log_sum_exp, [*scores, *columns])) / 2 - own) / len(scores)


def naive_segment_transport(similarity, segments, sentences, scale, plans=None):
    """`segments[v]` and `sentences[t]` count the real ones, which come first."""
    plans = plans or naive_plans(similarity, segments, sentences)
    scores = []
    for v, n in enumerate(segments):
        scores.append([])
        for t, m in enumerate(sentences):
            plan = plans[v][t]
            mass = sum(plan[i][j] for i in range(n) for j in range(m))
            matched = sum(plan[i][j] * similarity[v][t][i][j] for i in range(n) for j in range(m))
            scores[v].append(scale * matched / mass)
    return naive_both_ways(scores)


def alignments(n, m, first=0):
    """All ways to give m sentences segments of n that never go back."""
    if m == 0:
        return [()]
    return [(i, *rest) for i in range(first, n) for rest in alignments(n, m - 1, i)]


def naive_in_order(similarity, n, m, temperature=0.03):
    """Every alignment by itself."""
    ways = alignments(n, m)
    total = log_sum_exp(
        [sum(similarity[i][j] for j, i in enumerate(way)) / temperature for way in ways]
    )
    return temperature * (total - math.log(len(ways))) / m


def naive_segment_order(similarity, segments, sentences, scale, plans=None):
    videos = range(len(segments))
    scores = [
        [scale * naive_in_order(similarity[v][t], segments[v], sentences[t]) for t in videos]
        for v in videos
    ]
    return naive_both_ways(scores)


REFERENCES = {
    "segment_order": naive_segment_order,
    "segment_transport": naive_segment_transport,
}


KNOW_ORDER = {"segment_order"}
"""Of these, segments and sentences may not be shuffled; that they notice is tested with them."""


def reference(name):
    assert name in REFERENCES, f"loss {name!r} brings no reference: write its loops into {__file__}"
    return REFERENCES[name]


def masks(counts, width):
    return torch.arange(width) < torch.tensor(counts)[:, None]


def sets(seed=0, segments=(3, 1, 4), sentences=(2, 3, 1)):
    """Similarities of three videos and their texts, of different sizes, and NaN where there is nothing."""
    n, m = max(segments), max(sentences)
    size = (len(segments), len(sentences), n, m)
    similarity = torch.rand(
        size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    segment_mask, sentence_mask = masks(segments, n), masks(sentences, m)
    real = segment_mask[:, None, :, None] & sentence_mask[None, :, None, :]
    return similarity.masked_fill(~real, math.nan), segment_mask, sentence_mask, segments, sentences


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SETS)
def test_set_loss_is_the_naive_double_loop(name, seed):
    similarity, segment_mask, sentence_mask, segments, sentences = sets(seed)
    got = registry.build(name)(similarity, segment_mask, sentence_mask, 10.0)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(
        reference(name)(similarity.tolist(), segments, sentences, 10.0), abs=1e-10
    )


@pytest.mark.parametrize("name", SETS)
def test_set_loss_has_the_gradient_of_its_fixed_alignment(name):
    """The plan is no part of the gradient, so differences are taken of the naive loss with the plan held."""
    similarity, segment_mask, sentence_mask, segments, sentences = sets()
    similarity.requires_grad_()
    registry.build(name)(similarity, segment_mask, sentence_mask, 10.0).backward()
    plans, values, step = (
        naive_plans(similarity.tolist(), segments, sentences),
        similarity.tolist(),
        1e-6,
    )
    for at in torch.cartesian_prod(*(torch.arange(n) for n in similarity.shape)).tolist():
        v, t, i, j = at
        if i >= segments[v] or j >= sentences[t]:
            assert similarity.grad[v, t, i, j] == 0
            continue
        change = []
        for sign in (1, -1):
            values[v][t][i][j] += sign * step
            change.append(reference(name)(values, segments, sentences, 10.0, plans))
            values[v][t][i][j] -= sign * step
        assert similarity.grad[v, t, i, j].item() == pytest.approx(
            (change[0] - change[1]) / (2 * step), abs=1e-7
        )


@pytest.mark.parametrize("name", SETS)
def test_set_loss_gradcheck_where_there_is_nothing_to_align(name):
    """With one segment and one sentence the plan is constant, so the gradient is whole; the scale's always is."""
    ones = torch.ones(4, 1, dtype=torch.bool)
    similarity, scale = (
        sets(0, (1,) * 4, (1,) * 4)[0].requires_grad_(),
        torch.tensor(2.0, dtype=torch.float64),
    )
    loss = registry.build(name)
    assert torch.autograd.gradcheck(
        lambda x, s: loss(x, ones, ones, s), (similarity, scale.requires_grad_())
    )


@pytest.mark.parametrize("name", SETS)
def test_set_loss_ignores_order(name):
    similarity, segment_mask, sentence_mask, _, _ = sets()
    loss = registry.build(name)
    expected = loss(similarity, segment_mask, sentence_mask, 10.0).item()
    moves = (
        ([2, 0, 1], [0, 1, 2, 3], [0, 1, 2])
        if name in KNOW_ORDER
        else ([2, 0, 1], [3, 1, 0, 2], [1, 2, 0])
    )
    videos, segments, sentences = map(torch.tensor, moves)
    shuffled = similarity[videos][:, videos][:, :, segments][..., sentences]
    got = loss(
        shuffled, segment_mask[videos][:, segments], sentence_mask[videos][:, sentences], 10.0
    )
    assert got.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", SETS)
def test_set_loss_ignores_padding_and_leaves_out_what_is_empty(name):
    similarity, segment_mask, sentence_mask, _, _ = sets()
    loss = registry.build(name)
    expected = loss(similarity, segment_mask, sentence_mask, 10.0).item()
    padded = torch.full((3, 3, 9, 7), math.nan, dtype=torch.float64)
    padded[:, :, :4, :3] = similarity
    wide = [
        torch.nn.functional.pad(mask, (0, n)) for mask, n in ((segment_mask, 5), (sentence_mask, 4))
    ]
    assert loss(padded, *wide, 10.0).item() == pytest.approx(expected, abs=1e-12)
    # A fourth video without segments, whose text has no sentences either, changes nothing and harms no gradient.
    empty = torch.full((4, 4, 4, 3), math.nan, dtype=torch.float64)
    empty[:3, :3] = similarity
    empty.requires_grad_()
    scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    more = [torch.nn.functional.pad(mask, (0, 0, 0, 1)) for mask in (segment_mask, sentence_mask)]
    got = loss(empty, *more, scale)
    got.backward()
    assert got.item() == pytest.approx(expected, abs=1e-12)
    assert empty.grad.isfinite().all()
    assert scale.grad.isfinite()


@pytest.mark.parametrize("name", SETS)
def test_set_loss_in_bf16_at_scale_100(name):
    similarity, segment_mask, sentence_mask, segments, sentences = sets()
    low = similarity.bfloat16().requires_grad_()
    loss = registry.build(name)(low, segment_mask, sentence_mask, 100.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert low.grad.isfinite().all()
    exact = reference(name)(low.double().tolist(), segments, sentences, 100.0)
    assert loss.item() == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("name", SETS)
def test_set_loss_closed_forms(name):
    loss, ones = registry.build(name), torch.ones(5, 3, dtype=torch.bool)
    assert loss(torch.full((5, 5, 3, 3), 0.4), ones, ones, 100.0).item() == pytest.approx(
        math.log(5), rel=1e-6
    )
    assert loss(torch.rand(1, 1, 3, 3), ones[:1], ones[:1], 100.0).item() == 0.0
    found = torch.full((5, 5, 3, 3), -1.0)
    found[torch.arange(5), torch.arange(5)] = torch.eye(3) * 2 - 1
    assert loss(found, ones, ones, 100.0).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_set_loss_refuses_what_does_not_fit(name):
    loss = registry.build(name)
    with pytest.raises(ShapeError, match=r"\(2, 3, 1, 1\)"):
        loss(torch.zeros(2, 3, 1, 1), torch.ones(2, 1).bool(), torch.ones(3, 1).bool(), 1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"quantile": 1.5},
        {"temperature": 0.0},
        {"iterations": 0},
        {"order": -1.0},
        {"order": math.nan},
        {"backwards": True},
    ],
)
def test_segment_transport_refuses_options_that_make_no_sense(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        registry.build("segment_transport", options)
