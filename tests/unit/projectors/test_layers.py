"""Dropout has its rate, preserves the mean, and follows the seed."""

import math

import pytest
import torch

from vla.errors import UsageError
from vla.projectors._layers import Dropout


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_dropout_drops_its_share_at_random_and_keeps_the_mean(share):
    torch.manual_seed(0)
    count = 1_000_003  # no multiple of eight
    actual = Dropout(share).train()(torch.ones(count))
    exact = round(share * 256) / 256
    assert actual.unique().tolist() == [0.0, pytest.approx(1 / (1 - exact))]
    spread = math.sqrt(exact * (1 - exact) / count)
    kept = (actual > 0).double()
    assert abs(1 - kept.mean().item() - exact) < 5 * spread
    assert actual.double().mean().item() == pytest.approx(1, abs=5 * spread / (1 - exact))
    # Neighbours, bytes of one word among them, know nothing of each other.
    for apart in (1, 2, 4, 7, 8):
        both = (kept[:-apart] * kept[apart:]).mean().item()
        assert both == pytest.approx((1 - exact) ** 2, abs=6 * spread)
    for place in range(8):
        assert kept[place::8].mean().item() == pytest.approx(
            1 - exact, abs=5 * spread * math.sqrt(8)
        )


def test_random_bytes_are_uniform():
    """The lowest share that is not 0, and the highest."""
    torch.manual_seed(1)
    ones = torch.ones(2_000_000)
    assert (Dropout(1 / 256).train()(ones) == 0).double().mean().item() == pytest.approx(
        1 / 256, abs=3e-4
    )
    assert (Dropout(0.9999).train()(ones) > 0).double().mean().item() == pytest.approx(
        1 / 256, abs=3e-4
    )


def test_dropout_follows_the_seed_and_its_gradient_what_was_kept():
    layer = Dropout(0.3).train()
    torch.manual_seed(5)
    values = torch.randn(7, 3, 11, requires_grad=True)
    state = torch.get_rng_state()
    one, other = layer(values), layer(values)
    torch.set_rng_state(state)
    assert torch.equal(layer(values), one) and not torch.equal(one == 0, other == 0)
    one.sum().backward()
    assert torch.equal(values.grad == 0, one == 0)
    torch.testing.assert_close(values.grad * values, one)


def test_dropout_is_off_in_evaluation():
    values = torch.randn(5, 4)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0).train()(values), values)
    assert Dropout(0.5).train()(torch.zeros(0, 4)).shape == (0, 4)
    low = Dropout(0.5).train()(values.bfloat16())
    assert low.dtype == torch.bfloat16 and low.isfinite().all()
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(UsageError, match="dropout is a share"):
            Dropout(wrong)
