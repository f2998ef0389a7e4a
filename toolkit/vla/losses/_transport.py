"""Which sentence tells which segment, where nobody wrote it down: entropic optimal transport with a way out."""

from __future__ import annotations

import torch
from torch import Tensor

from vla.errors import ShapeError, UsageError
from vla.losses.base import widened


def soft_alignment(
    similarity: Tensor,
    mask_a: Tensor,
    mask_b: Tensor,
    *,
    temperature: float,
    dustbin: float | Tensor,
    iterations: int,
) -> Tensor:
    """How much of every segment goes to every sentence of its text; no gradient flows through it.

    Every segment has mass 1 and so has every sentence. Either may leave any part of it in the dustbin, so the rows and
    columns of the plan sum to at most 1. Two go together if they are more similar than the dustbin.

    Args:
        similarity: `(..., N, M)`, for instance `(B, N, M)`.
        mask_a: `(..., N)` bool, True where there is a segment. May broadcast over the leading dimensions.
        mask_b: `(..., M)` bool, True where there is a sentence, likewise.
        temperature: weight of the entropy, in units of similarity: the lower, the sharper, and the more iterations it
            takes.
        dustbin: similarity of everything to the dustbin.
        iterations: Sinkhorn steps. Each ends by making the columns exact; the rows soon follow, except where next to
            nothing belongs in the dustbins: their error then shrinks only as 1 / iterations.

    Returns:
        `(..., N, M)` in [0, 1], 0 at padding, whatever the similarity holds there.

    Raises:
        ShapeError: a mask does not fit the similarity.
        UsageError: the temperature is not positive or there are no iterations.
    """
    plan = log_plan(similarity, mask_a, mask_b, temperature=temperature, dustbin=dustbin, iterations=iterations)
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
    """Logarithm of the whole plan, dustbin included: `(..., N + 1, M + 1)`, -inf at padding. As `soft_alignment`.

    Marginals: each of the n real segments 1, their dustbin m; each of the m real sentences 1, their dustbin n; so each
    dustbin can take the whole other side. They are those of the public code of Norton (Lin et al., ICLR 2024), times
    n + m, which follow SuperGlue (Sarlin et al., CVPR 2020).
    """
    if mask_a.shape[-1:] != similarity.shape[-2:-1] or mask_b.shape[-1:] != similarity.shape[-1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (similarity, mask_a, mask_b))
        raise ShapeError(f"similarity (..., N, M) needs masks (..., N) and (..., M); got {shapes}")
    if not temperature > 0 or iterations < 1:
        raise UsageError(f"transport needs a positive temperature and iterations, not {temperature} and {iterations}")
    energy = _with_dustbin(widened(similarity), mask_a, mask_b, dustbin) / temperature
    log_a, log_b = _log_masses(energy, mask_a, mask_b)
    v = log_b
    for _ in range(iterations):
        u = log_a - (energy + v[..., None, :]).logsumexp(dim=-1)
        v = log_b - (energy + u[..., :, None]).logsumexp(dim=-2)
    real = (log_a > -torch.inf)[..., :, None] & (log_b > -torch.inf)[..., None, :]
    # A pair without segments and without sentences comes out as NaN.
    return (energy + u[..., :, None] + v[..., None, :]).masked_fill(~real, -torch.inf)


def _with_dustbin(similarity: Tensor, mask_a: Tensor, mask_b: Tensor, dustbin: float | Tensor) -> Tensor:
    *batch, n, m = similarity.shape
    framed = similarity.new_zeros(*batch, n + 1, m + 1) + dustbin
    # Padding may hold NaN: it is replaced, never multiplied by 0.
    framed[..., :n, :m] = torch.where(mask_a[..., :, None] & mask_b[..., None, :], similarity, framed[..., :n, :m])
    return framed


def _log_masses(energy: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the marginals `(..., N + 1)` and `(..., M + 1)`; padding weighs 0, hence -inf."""
    batch = energy.shape[:-2]
    a, b = (mask.to(energy.dtype).expand(*batch, -1) for mask in (mask_a, mask_b))
    with_dustbin_a = torch.cat([a, b.sum(dim=-1, keepdim=True)], dim=-1)
    with_dustbin_b = torch.cat([b, a.sum(dim=-1, keepdim=True)], dim=-1)
    return with_dustbin_a.log(), with_dustbin_b.log()
