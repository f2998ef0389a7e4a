"""Soft alignment of sentences with segments: entropic optimal transport with dustbins."""

from __future__ import annotations

import torch
from torch import Tensor

from vla.errors import ShapeError, UsageError
from vla.losses.base import at_least_float32


def soft_alignment(
    similarity: Tensor,
    mask_a: Tensor,
    mask_b: Tensor,
    *,
    temperature: float,
    dustbin: float | Tensor,
    iterations: int,
) -> Tensor:
    """Return the transport plan between the segments and the sentences of a text, without gradient.

    Every segment and every sentence has mass 1. Any part of it may go to the dustbin, so rows and
    columns of the plan sum to at most 1. A segment and a sentence are matched if they are more
    similar than the dustbin.

    Args:
        similarity: `(..., N, M)`, for instance `(B, N, M)`.
        mask_a: `(..., N)` bool, True for real segments; may broadcast over the leading dimensions.
        mask_b: `(..., M)` bool, True for real sentences, likewise.
        temperature: weight of the entropy, in units of similarity; a lower one gives a sharper plan
            and needs more iterations.
        dustbin: similarity of everything to the dustbin.
        iterations: Sinkhorn steps. Each ends by making the columns exact; the rows converge soon,
            except where almost no mass belongs in the dustbins: their error then shrinks only as
            1 / iterations.

    Returns:
        `(..., N, M)` in [0, 1], 0 at padding, whatever the similarity holds there.

    Raises:
        ShapeError: a mask does not fit the similarity.
        UsageError: the temperature is not positive or `iterations` is below 1.
    """
    plan = log_plan(
        similarity, mask_a, mask_b, temperature=temperature, dustbin=dustbin, iterations=iterations
    )
    return plan[..., :-1, :-1].exp()


@torch.no_grad()
def log_plan(
    similarity: Tensor,
    mask_a: Tensor,
    mask_b: Tensor,
    *,
    temperature: float,
    dustbin: float | Tensor,
    iterations: int,
) -> Tensor:
    """Return the logarithm of the plan with dustbins, `(..., N + 1, M + 1)`, -inf at padding.

    Arguments and errors are those of `soft_alignment`. Marginals: 1 for each of the n real segments
    and m for their dustbin; 1 for each of the m real sentences and n for their dustbin; so each
    dustbin can take the whole other side. They are those of the public code of Norton (Lin et al.,
    ICLR 2024), times n + m, which follow SuperGlue (Sarlin et al., CVPR 2020).
    """
    if mask_a.shape[-1:] != similarity.shape[-2:-1] or mask_b.shape[-1:] != similarity.shape[-1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (similarity, mask_a, mask_b))
        raise ShapeError(f"similarity (..., N, M) needs masks (..., N) and (..., M); got {shapes}")
    if not temperature > 0 or iterations < 1:
        raise UsageError(
            f"transport needs a positive temperature and iterations, not {temperature} and "
            f"{iterations}"
        )
    energy = _with_dustbin(at_least_float32(similarity), mask_a, mask_b, dustbin) / temperature
    log_a, log_b = _log_masses(energy, mask_a, mask_b)
    v = log_b
    for _ in range(iterations):
        u = log_a - (energy + v[..., None, :]).logsumexp(dim=-1)
        v = log_b - (energy + u[..., :, None]).logsumexp(dim=-2)
    real = (log_a > -torch.inf)[..., :, None] & (log_b > -torch.inf)[..., None, :]
    # A pair without segments and without sentences gives NaN.
    return (energy + u[..., :, None] + v[..., None, :]).masked_fill(~real, -torch.inf)


def _with_dustbin(
    similarity: Tensor, mask_a: Tensor, mask_b: Tensor, dustbin: float | Tensor
) -> Tensor:
    *batch, n, m = similarity.shape
    with_dustbin = similarity.new_zeros(*batch, n + 1, m + 1) + dustbin
    real = mask_a[..., :, None] & mask_b[..., None, :]
    # Padding may hold NaN: it is replaced, never multiplied by 0.
    with_dustbin[..., :n, :m] = torch.where(real, similarity, with_dustbin[..., :n, :m])
    return with_dustbin


def _log_masses(energy: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the marginals, `(..., N + 1)` and `(..., M + 1)`.

    -inf at padding.
    """
    batch = energy.shape[:-2]
    a, b = (mask.to(energy.dtype).expand(*batch, -1) for mask in (mask_a, mask_b))
    with_dustbin_a = torch.cat([a, b.sum(dim=-1, keepdim=True)], dim=-1)
    with_dustbin_b = torch.cat([b, a.sum(dim=-1, keepdim=True)], dim=-1)
    return with_dustbin_a.log(), with_dustbin_b.log()
