"""Blockwise losses equal those of the whole matrix, with their gradients, for any block size."""

import math

import pytest
import torch

from contract.test_losses import PAIRS, reference
from vla.errors import ShapeError, UsageError
from vla.losses import registry
from vla.losses.base import positive_pairs, same_text_pairs

pytestmark = pytest.mark.parametrize("name", PAIRS)

SIZES = (1, 5, 23, 10_000)


def vectors(queries=9, videos=6, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = (
        torch.randn(n, dim, generator=generator, dtype=torch.float64) for n in (queries, videos)
    )
    return tuple(v / v.norm(dim=1, keepdim=True) for v in made)


def some(*pairs):
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


CASES = {
    "one each": (some(*((i, i) for i in range(6))), None),
    "captions of a video": (positive_pairs(torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 5])), None),
    "several videos of a text": (some((0, 1), (0, 4), (3, 3), (3, 0), (8, 5), (2, 1)), None),
    "in any order, twice": (some((8, 5), (0, 1), (3, 3), (0, 1), (0, 0)), None),
    "left out": (
        positive_pairs(torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 5])),
        some((0, 3), (8, 0), (4, 1), (4, 0)),
    ),
    "a positive left out": (some((0, 0), (1, 1), (2, 2)), some((1, 1), (2, 3))),
    "a row and a column left out": (
        some((0, 0), (1, 1), (4, 2)),
        some(*((4, v) for v in range(6)), *((q, 1) for q in range(9))),
    ),
    "nothing belongs together": (some(), None),
}


def as_matrix(queries, videos, scale, positives, left_out):
    """The same thing said with a full matrix."""
    expected = torch.zeros(len(queries), len(videos), dtype=torch.bool)
    expected[positives[:, 0], positives[:, 1]] = True
    scores = queries @ videos.T * scale
    if left_out is not None:
        barred = torch.zeros_like(expected)
        barred[left_out[:, 0], left_out[:, 1]] = True
        scores = scores.masked_fill(barred, -math.inf)
    return scores, expected


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_naive_double_loop(name, case):
    positives, left_out = CASES[case]
    queries, videos = vectors()
    scores, expected = as_matrix(queries, videos, 10.0, positives, left_out)
    exact = reference(name)(scores.tolist(), expected.tolist())
    for elements in SIZES:
        got = registry.build(name).from_vectors(
            queries, videos, 10.0, positives, left_out, elements=elements
        )
        assert got.dtype == torch.float64 and got.shape == ()
        assert got.item() == pytest.approx(exact, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradients_match_whole_matrix(name, case):
    positives, left_out = CASES[case]
    loss = registry.build(name)

    def gradients(made):
        given = [v.requires_grad_() for v in (*vectors(), torch.tensor(10.0, dtype=torch.float64))]
        return torch.autograd.grad(made(*given), given)

    exact = gradients(lambda q, v, s: loss(*as_matrix(q, v, s, positives, left_out)))
    for elements in SIZES:
        actual = gradients(
            lambda q, v, s, n=elements: loss.from_vectors(q, v, s, positives, left_out, elements=n)
        )
        for ours, theirs in zip(actual, exact, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", ["captions of a video", "left out", "a row and a column left out"])
def test_its_gradients_are_its_differences(name, case):
    positives, left_out = CASES[case]
    given = [v.requires_grad_() for v in (*vectors(), torch.tensor(3.0, dtype=torch.float64))]
    loss = registry.build(name)
    assert torch.autograd.gradcheck(
        lambda q, v, s: loss.from_vectors(q, v, s, positives, left_out, elements=12), given
    )


def test_order_and_repeats_of_pairs_do_not_matter(name):
    positives, left_out = CASES["left out"]
    queries, videos = vectors()
    loss = registry.build(name)
    expected = loss.from_vectors(queries, videos, 10.0, positives, left_out).item()
    rows, columns = (torch.randperm(n, generator=torch.Generator().manual_seed(n)) for n in (9, 6))
    back = [torch.argsort(p) for p in (rows, columns)]

    def moved(pairs):
        return torch.stack([back[0][pairs[:, 0]], back[1][pairs[:, 1]]], 1)

    twice = torch.cat([moved(left_out)] * 2).flip(0)
    got = loss.from_vectors(
        queries[rows], videos[columns], 10.0, moved(positives), twice, elements=7
    )
    assert got.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_half_precision_at_scale_100(name, low):
    queries, videos = (v.to(low).requires_grad_() for v in vectors(40, 40, 16))
    positives = positive_pairs(torch.arange(40))
    loss = registry.build(name).from_vectors(
        queries, videos, 100.0, positives, some((0, 1), (3, 5)), elements=200
    )
    loss.backward()
    assert loss.dtype == torch.float32
    assert queries.grad.isfinite().all() and videos.grad.isfinite().all()
    scores, expected = as_matrix(
        queries.double(), videos.double(), 100.0, positives, some((0, 1), (3, 5))
    )
    assert loss.item() == pytest.approx(
        reference(name)(scores.tolist(), expected.tolist()), rel=1e-4
    )


def test_memory_stays_below_the_matrix(name):
    """No tensor of the size of the matrix is kept for the gradient or made on the way."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, given=(), named=None):
            nonlocal largest
            made = function(*given, **(named or {}))
            for part in made if isinstance(made, tuple | list) else [made]:
                if isinstance(part, torch.Tensor):
                    largest = max(largest, part.numel())
            return made

    queries, videos = (v.requires_grad_() for v in vectors(300, 200, 4))
    with Watch():
        owner = torch.arange(300) % 200
        registry.build(name).from_vectors(
            queries, videos, 10.0, positive_pairs(owner), elements=2000
        ).backward()
    assert 0 < largest <= 2000


def test_what_does_not_fit_is_refused(name):
    queries, videos = vectors()
    loss, fine = registry.build(name), CASES["one each"][0]
    with pytest.raises(ShapeError, match=r"\(9, 5\) and videos \(6, 4\)"):
        loss.from_vectors(queries, videos[:, :4], 1.0, fine)
    with pytest.raises(ShapeError, match=r"\(K, 2\) int64"):
        loss.from_vectors(queries, videos, 1.0, fine.T)
    with pytest.raises(ShapeError, match="float64"):
        loss.from_vectors(queries, videos, 1.0, fine.double())
    for wrong in ((9, 0), (0, 6), (-1, 0)):
        with pytest.raises(UsageError, match=r"points outside of 9 queries and 6 videos"):
            loss.from_vectors(queries, videos, 1.0, some(wrong))
        with pytest.raises(UsageError, match=r"points outside of 9 queries and 6 videos"):
            loss.from_vectors(queries, videos, 1.0, fine, some(wrong))


def test_empty_input_has_zero_loss(name):
    queries, videos = (v.requires_grad_() for v in vectors())
    loss = registry.build(name)
    for q, v in ((queries[:0], videos), (queries, videos[:0]), (queries[:0], videos[:0])):
        got = loss.from_vectors(q, v, 1.0, some())
        got.backward()
        assert got.item() == 0.0


def test_same_text_pairs_match_naive_loop(name):
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        count = int(torch.randint(0, 30, (), generator=generator))
        videos = torch.randint(0, 6, (count,), generator=generator)
        texts = torch.randint(0, 9, (count,), generator=generator)
        expected = {
            (q, int(videos[other]))
            for q in range(count)
            for other in range(count)
            if texts[q] == texts[other] and videos[other] != videos[q]
        }
        actual = [tuple(p) for p in same_text_pairs(videos, texts).tolist()]
        assert len(actual) == len(set(actual)) and set(actual) == expected
