"""Packing: round trip, independence of padding, and gradients of plain indexing."""

import pytest
import torch
from torch.nn import functional

from vla.nn.l2_normalize import l2_normalize
from vla.nn.packing import Packing


def made(lengths, longest, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    padded = torch.randn(len(lengths), longest, width, generator=generator, dtype=torch.float64)
    return mask, padded * mask.unsqueeze(-1)


SHAPES = [([3, 1, 5], 5), ([4], 6), ([1, 1], 1), ([2, 2, 2], 3)]


@pytest.mark.parametrize(("lengths", "longest"), SHAPES)
def test_pad_inverts_unpad(lengths, longest):
    mask, padded = made(lengths, longest)
    layout = Packing(mask)
    rows = layout.unpad(padded)
    assert torch.equal(rows, torch.cat([p[:n] for p, n in zip(padded, lengths, strict=True)]))
    assert torch.equal(layout.pad(rows), padded)
    assert layout.starts.tolist() == [sum(lengths[:i]) for i in range(len(lengths))]
    garbage = padded.masked_fill(~mask.unsqueeze(-1), torch.nan)
    assert torch.equal(layout.unpad(garbage), rows)


@pytest.mark.parametrize(("lengths", "longest"), SHAPES)
@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_conv1d_pads_each_video_with_zeros(lengths, longest, size):
    mask, padded = made(lengths, longest)
    layer = torch.nn.Conv1d(3, 4, size, padding=size // 2).double()
    actual = Packing(mask).conv1d(Packing(mask).unpad(padded), layer.weight, layer.bias)
    expected = torch.cat([layer(p[:n].T).T for p, n in zip(padded, lengths, strict=True)])
    torch.testing.assert_close(actual, expected)


def test_gradients():
    mask, padded = made([3, 1, 4], 5)
    layout, rows = Packing(mask), Packing(mask).unpad(padded)
    weight = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layout.unpad, padded.requires_grad_(True))
    assert torch.autograd.gradcheck(layout.pad, rows.detach().requires_grad_(True))
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        layout.conv1d, (rows.detach().requires_grad_(True), weight, bias)
    )


def test_unit_vectors_and_their_gradient():
    vectors = torch.randn(
        4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    torch.testing.assert_close(l2_normalize(vectors), functional.normalize(vectors, dim=-1))
    assert torch.autograd.gradcheck(l2_normalize, vectors)
    (slope,) = torch.autograd.grad(l2_normalize(vectors).pow(3).sum(), vectors, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
    assert (l2_normalize(torch.zeros(2, 3)) == 0).all()
