"""Soft alignment of segments and sentences: marginals, padding, order and dustbins."""

import math

import pytest
import torch

from vla.errors import ShapeError, UsageError
from vla.losses._transport import log_plan, soft_alignment


def similarities(*size, seed=0):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def real(counts, width):
    return torch.arange(width) < torch.tensor(counts)[:, None]


def test_the_plan_has_its_marginals():
    segments, sentences = (5, 2, 6), (3, 4, 1)
    mask_a, mask_b = real(segments, 6), real(sentences, 4)
    plan = log_plan(
        similarities(3, 6, 4), mask_a, mask_b, temperature=0.1, dustbin=0.5, iterations=500
    ).exp()
    for b, (n, m) in enumerate(zip(segments, sentences, strict=True)):
        rows = [1.0] * n + [0.0] * (6 - n) + [m]
        columns = [1.0] * m + [0.0] * (4 - m) + [n]
        torch.testing.assert_close(
            plan[b].sum(1), torch.tensor(rows, dtype=torch.float64), atol=1e-9, rtol=0
        )
        torch.testing.assert_close(
            plan[b].sum(0), torch.tensor(columns, dtype=torch.float64), atol=1e-9, rtol=0
        )


def test_the_columns_are_exact_after_one_iteration():
    ones = torch.ones(1, 4, dtype=torch.bool)
    plan = log_plan(
        similarities(1, 4, 4), ones, ones, temperature=0.05, dustbin=0.2, iterations=1
    ).exp()
    torch.testing.assert_close(plan.sum(1)[0], torch.tensor([1.0, 1, 1, 1, 4], dtype=torch.float64))


def test_order_is_recovered_whatever_it_is():
    ones = torch.ones(1, 5, dtype=torch.bool)
    for order in (torch.arange(5), torch.tensor([3, 1, 4, 0, 2])):
        plan = soft_alignment(
            torch.eye(5)[None, order], ones, ones, temperature=0.02, dustbin=0.3, iterations=500
        )
        torch.testing.assert_close(plan[0], torch.eye(5)[order], atol=2e-3, rtol=0)


def test_dissimilar_segments_are_unmatched():
    """Segment 1 is background and sentence 2 is not shown; the others belong together."""
    similarity = torch.tensor([[[0.9, 0.1, 0.1], [0.1, 0.1, 0.1], [0.1, 0.9, 0.1]]])
    ones = torch.ones(1, 3, dtype=torch.bool)
    plan = soft_alignment(similarity, ones, ones, temperature=0.02, dustbin=0.5, iterations=500)[0]
    expected = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1.0, 0]])
    torch.testing.assert_close(plan, expected, atol=2e-3, rtol=0)
    # Without a way out worth taking, everything is matched with something.
    forced = soft_alignment(
        similarity, ones, ones, temperature=0.05, dustbin=-1.0, iterations=1000
    )[0]
    torch.testing.assert_close(forced.sum(1), torch.ones(3), atol=2e-3, rtol=0)


def test_equal_similarities_at_the_dustbin_closed_form():
    """All energies equal: the plan is the product of the marginals over their total, 1 * 1 / (n + m)."""
    ones_a, ones_b = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    plan = soft_alignment(
        torch.full((1, 3, 2), 0.5), ones_a, ones_b, temperature=0.1, dustbin=0.5, iterations=5
    )
    torch.testing.assert_close(plan, torch.full((1, 3, 2), 1 / 5))


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
def test_padding_is_never_read(garbage):
    tight = similarities(2, 4, 3)
    options = {"temperature": 0.05, "dustbin": 0.4, "iterations": 30}
    expected = soft_alignment(tight, real((4, 4), 4), real((3, 3), 3), **options)
    wide = torch.full((2, 9, 8), garbage, dtype=torch.float64)
    wide[:, :4, :3] = tight
    plan = soft_alignment(wide, real((4, 4), 9), real((3, 3), 8), **options)
    torch.testing.assert_close(plan[:, :4, :3], expected, atol=1e-13, rtol=0)
    assert plan.sum() == pytest.approx(expected.sum().item(), abs=1e-12)
    assert (plan[:, 4:] == 0).all()
    assert (plan[:, :, 3:] == 0).all()


def test_holes_in_the_masks_are_padding_too():
    similarity, keep_a, keep_b = similarities(1, 5, 4), [0, 2, 4], [1, 3]
    mask_a, mask_b = torch.zeros(1, 5, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
    mask_a[0, keep_a] = mask_b[0, keep_b] = True
    options = {"temperature": 0.1, "dustbin": 0.4, "iterations": 30}
    plan = soft_alignment(similarity, mask_a, mask_b, **options)
    ones = torch.ones(1, 3, dtype=torch.bool)
    expected = soft_alignment(similarity[:, keep_a][:, :, keep_b], ones, ones[:, :2], **options)
    torch.testing.assert_close(plan[:, keep_a][:, :, keep_b], expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("n", "m"), [(0, 2), (3, 0), (0, 0)])
def test_an_empty_side_matches_nothing(n, m):
    plan = soft_alignment(
        similarities(1, 3, 2),
        real((n,), 3),
        real((m,), 2),
        temperature=0.1,
        dustbin=0.5,
        iterations=10,
    )
    assert plan.tolist() == [[[0.0, 0.0]] * 3]


def test_masks_broadcast_over_pairs():
    similarity = similarities(2, 3, 4, 2)
    mask_a, mask_b = real((4, 2), 4), real((2, 1, 2), 2)
    options = {"temperature": 0.1, "dustbin": 0.5, "iterations": 20}
    plan = soft_alignment(similarity, mask_a[:, None], mask_b[None], **options)
    for v in range(2):
        for t in range(3):
            one = soft_alignment(similarity[v, t], mask_a[v], mask_b[t], **options)
            torch.testing.assert_close(plan[v, t], one, atol=1e-13, rtol=0)


def test_no_gradient_and_float32_from_bf16():
    ones = torch.ones(1, 4, dtype=torch.bool)
    similarity = similarities(1, 4, 4).bfloat16().requires_grad_()
    plan = soft_alignment(similarity, ones, ones, temperature=0.01, dustbin=0.5, iterations=50)
    assert not plan.requires_grad
    assert plan.dtype == torch.float32
    exact = soft_alignment(
        similarity.double(), ones, ones, temperature=0.01, dustbin=0.5, iterations=50
    )
    torch.testing.assert_close(plan.double(), exact, atol=1e-4, rtol=0)


def test_rejects_invalid_arguments():
    ones = torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"\(1, 3, 4\), \(1, 4\), \(1, 4\)"):
        soft_alignment(
            similarities(1, 3, 4), ones, ones, temperature=0.1, dustbin=0.5, iterations=5
        )
    with pytest.raises(UsageError, match="not 0 and 5"):
        soft_alignment(similarities(1, 4, 4), ones, ones, temperature=0, dustbin=0.5, iterations=5)
    with pytest.raises(UsageError, match=r"not 0\.1 and 0"):
        soft_alignment(
            similarities(1, 4, 4), ones, ones, temperature=0.1, dustbin=0.5, iterations=0
        )
