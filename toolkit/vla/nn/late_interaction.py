"""Late interaction: how alike two sets of vectors are, every member of each answered by the best of the other.

A text as its words, a video as its frames. What a mean would blur, a word that only one frame shows, counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.errors import ShapeError

ELEMENTS = 1 << 24
"""Products of a word and a frame in a block: 64 MiB of float32, of which a few copies are alive at once."""


_GROUPS = 4
"""Sets of like length are worked on together: one long caption would lengthen all others by padding."""


def interaction(
    words: Tensor,
    word_mask: Tensor,
    frames: Tensor,
    frame_mask: Tensor,
    word_weights: Tensor,
    frame_weights: Tensor,
    *,
    elements: int = ELEMENTS,
) -> Tensor:
    """`(Q, V)`: half of each word's best frame, weighted and summed, and half of each frame's best word.

    Exact whatever `elements` is: blocks of pairs are worked on one after another; if there are several, the gradient makes
    them anew.

    Args:
        words: `(Q, L, E)` unit vectors; what lies at padding is not read.
        word_mask: `(Q, L)` bool, True for real ones.
        frames: `(V, T, E)`, likewise.
        frame_mask: `(V, T)` bool.
        word_weights: `(Q, L)`, each row of sum 1 and 0 at padding, as `TokenWeights` gives them.
        frame_weights: `(V, T)`, likewise.
        elements: products held at once, at least those of one pair.

    Returns:
        In [-1, 1] for unit vectors; -inf where a side has no member, as `PairLoss` wants what is not to be compared.

    Raises:
        ShapeError: masks, weights or widths do not fit.

    Source: weighted token-wise interaction of DRL (Wang et al., "Disentangled Representation Learning for Text-Video
    Retrieval", 2022); mean-max of ColBERT (Khattab and Zaharia 2020), both ways as FILIP (Yao et al. 2021).
    """
    _check(words, word_mask, frames, frame_mask, word_weights, frame_weights)
    if not words.shape[1] or not frames.shape[1]:
        return word_weights.new_full((len(words), len(frames)), -torch.inf)
    # Padding may hold NaN, and 0 * NaN is NaN.
    words, frames = (x.masked_fill(~m.unsqueeze(-1), 0.0) for x, m in ((words, word_mask), (frames, frame_mask)))
    a, b = word_weights.masked_fill(~word_mask, 0.0), frame_weights.masked_fill(~frame_mask, 0.0)
    scores = _by_length((words, word_mask, a), (frames, frame_mask, b), elements)
    return scores.masked_fill(~(word_mask.any(1)[:, None] & frame_mask.any(1)[None]), -torch.inf)


class TokenWeights(nn.Module):
    """How much each member of a set counts, learned from the vectors; at first all count the same, exactly.

    Args:
        dim: width of the vectors.
        width: hidden units.
    """

    def __init__(self, dim: int, width: int = 128) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(dim, width), nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.leave.weight)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """`(..., L)` of sum 1 over what `mask` `(..., L)` says is real, from `vectors` `(..., L, dim)`; 0 at padding."""
        real = self.leave(nn.functional.gelu(self.enter(vectors[mask]))).squeeze(-1)
        real = real.to(torch.promote_types(real.dtype, torch.float32))
        # The lowest finite number rather than -inf: a row of nothing would have a NaN gradient.
        logits = real.new_full(mask.shape, torch.finfo(real.dtype).min).masked_scatter(mask, real)
        shares = logits.softmax(-1)
        return shares.masked_fill(~mask, 0.0)


class TokenInteraction(nn.Module):
    """Scores of whole vectors, moved towards those of words and frames by a share that is learned and starts at 0.

    `whole + share * (interaction - whole)`: at step 0 exactly `whole`, because frozen encoders never compared a word with a
    frame. The share gets a gradient at once, the weights as soon as it is not 0.

    Args:
        dim: width of the vectors.
        width: hidden units of each side's weights.
    """

    def __init__(self, dim: int, width: int = 128) -> None:
        super().__init__()
        self.words, self.frames = TokenWeights(dim, width), TokenWeights(dim, width)
        self.share = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        whole: Tensor,
        words: Tensor,
        word_mask: Tensor,
        frames: Tensor,
        frame_mask: Tensor,
        *,
        elements: int = ELEMENTS,
    ) -> Tensor:
        """`(Q, V)` from `whole` `(Q, V)`; the rest as `interaction`. Where a side is empty, `whole` as it is."""
        a, b = self.words(words, word_mask), self.frames(frames, frame_mask)
        found = interaction(words, word_mask, frames, frame_mask, a, b, elements=elements)
        return whole + self.share * torch.where(found > -torch.inf, found - whole, 0.0)


def _by_length(left: Sequence[Tensor], right: Sequence[Tensor], elements: int) -> Tensor:
    """`(Q, V)` as `_in_blocks`, of vectors, mask and weights `(Q, L, ...)`: those of like length together, cut to the longest."""
    (texts, back), (videos, forth) = _groups(left[1]), _groups(right[1])
    rows = []
    for some, length in texts:
        told = [x.index_select(0, some)[:, :length] for x in left]
        parts = []
        for others, width in videos:
            shown = [x.index_select(0, others)[:, :width] for x in right]
            parts.append(_in_blocks(told, shown, length * width, elements // (len(texts) * len(videos))))
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows).index_select(0, back).index_select(1, forth)


def _groups(mask: Tensor) -> tuple[list[tuple[Tensor, int]], Tensor]:
    """Rows `(N,)` of a few groups of like length, with the longest of each, and the place of each row among all of them."""
    lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)
    order = lengths.argsort(stable=True)
    groups = [(rows, max(1, int(lengths[rows].max()) if len(rows) else 1)) for rows in order.chunk(_GROUPS)]
    return groups, order.argsort()


def _in_blocks(left: Sequence[Tensor], right: Sequence[Tensor], each: int, elements: int) -> Tensor:
    """`(Q, V)` of `left`, `(Q, ...)` each, and of `right`, `(V, ...)`.

    A pair holds `each` products, a block about `elements`. Several blocks are made again for the gradient, rather than held.
    """
    across = min(max(1, len(right[0])), max(1, elements // max(1, each)))
    down = max(1, elements // max(1, each * across))
    # Split at once rather than sliced block by block: the gradient of a slice is as large as the whole.
    columns = list(zip(*(x.split(across) for x in right), strict=True))
    texts = list(zip(*(x.split(down) for x in left), strict=True))
    block: Callable[..., Tensor] = _block
    if torch.is_grad_enabled() and len(columns) * len(texts) > 1:
        block = partial(checkpoint, _block, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([torch.cat([block(*some, *other) for other in columns], 1) for some in texts])


def _block(words: Tensor, word_mask: Tensor, a: Tensor, frames: Tensor, frame_mask: Tensor, b: Tensor) -> Tensor:
    q, n, e = words.shape
    v, m, _ = frames.shape
    alike = words.reshape(q * n, e) @ frames.reshape(v * m, e).T
    alike = alike.to(torch.promote_types(alike.dtype, torch.float32)).view(q, n, v, m)
    lowest = torch.finfo(alike.dtype).min
    frame = alike.masked_fill(~frame_mask, lowest).max(3).values  # (q, n, v)
    word = alike.masked_fill(~word_mask[:, :, None, None], lowest).max(1).values  # (q, v, m)
    frame = frame.masked_fill(~frame_mask.any(1), 0.0)
    word = word.masked_fill(~word_mask.any(1)[:, None, None], 0.0)
    return (
        torch.einsum("qn,qnv->qv", a.to(frame.dtype), frame) + torch.einsum("vm,qvm->qv", b.to(word.dtype), word)
    ) / 2


def _check(words: Tensor, word_mask: Tensor, frames: Tensor, frame_mask: Tensor, a: Tensor, b: Tensor) -> None:
    for name, vectors, mask, weights in (("words", words, word_mask, a), ("frames", frames, frame_mask, b)):
        shape = tuple(vectors.shape)
        if vectors.ndim != 3 or not mask.shape == weights.shape == shape[:2]:
            raise ShapeError(
                f"{name} are (N, L, E) with a mask (N, L), weights likewise; not {shape}, {tuple(mask.shape)} and weights "
                f"{tuple(weights.shape)}"
            )
    if words.shape[2] != frames.shape[2]:
        raise ShapeError(f"words are {words.shape[2]} wide, frames {frames.shape[2]}: two spaces were mixed")
