"""Late interaction: similarity of two sets of vectors by the best match of every member.

Compared with the mean vectors of a text's tokens and a video's frames, a word that a single frame
shows keeps its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.errors import ShapeError

ELEMENTS = 1 << 24
"""Products of a word and a frame in a block: 64 MiB of float32, with a few copies in memory."""


_GROUPS = 4
"""Number of groups of sets of similar length: one long caption would lengthen all others by
padding.
"""


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
    """Return the mean of the weighted sum of each word's best frame and that of each frame's best
    word.

    The result does not depend on `elements`: pairs are processed in blocks, which the backward pass
    computes again if there are several.

    Args:
        words: `(Q, L, E)` unit vectors; padding is not read.
        word_mask: `(Q, L)` bool, True for real ones.
        frames: `(V, T, E)`, likewise.
        frame_mask: `(V, T)` bool.
        word_weights: `(Q, L)`, each row of sum 1 and 0 at padding, as `TokenWeights` gives them.
        frame_weights: `(V, T)`, likewise.
        elements: maximum number of products in memory, but at least those of one pair.

    Returns:
        `(Q, V)`, in [-1, 1] for unit vectors; -inf where a side has no member, which `PairLoss`
        ignores.

    Raises:
        ShapeError: masks, weights or widths do not fit.

    Source: weighted token-wise interaction of DRL (Wang et al., "Disentangled Representation
    Learning for Text-Video Retrieval", 2022); mean-max of ColBERT (Khattab and Zaharia 2020), both
    ways as FILIP (Yao et al. 2021).
    """
    _check(words, word_mask, frames, frame_mask, word_weights, frame_weights)
    if not words.shape[1] or not frames.shape[1]:
        return word_weights.new_full((len(words), len(frames)), -torch.inf)
    # Padding may hold NaN, and 0 * NaN is NaN.
    words, frames = (
        x.masked_fill(~m.unsqueeze(-1), 0.0) for x, m in ((words, word_mask), (frames, frame_mask))
    )
    a, b = word_weights.masked_fill(~word_mask, 0.0), frame_weights.masked_fill(~frame_mask, 0.0)
    scores = _by_length((words, word_mask, a), (frames, frame_mask, b), elements)
    return scores.masked_fill(~(word_mask.any(1)[:, None] & frame_mask.any(1)[None]), -torch.inf)


class TokenWeights(nn.Module):
    """Learned weights of the members of a set, computed from their vectors; equal at first.

    Args:
        dim: width of the vectors.
        width: hidden units.
    """

    def __init__(self, dim: int, width: int = 128) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(dim, width), nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.leave.weight)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return weights `(..., L)` of sum 1.

        Args:
            vectors: `(..., L, dim)`.
            mask: `(..., L)` bool, True for real members; others have weight 0.
        """
        real = self.leave(nn.functional.gelu(self.enter(vectors[mask]))).squeeze(-1)
        real = real.to(torch.promote_types(real.dtype, torch.float32))
        # The lowest finite number rather than -inf: an empty row would have a NaN gradient.
        logits = real.new_full(mask.shape, torch.finfo(real.dtype).min).masked_scatter(mask, real)
        return logits.softmax(-1).masked_fill(~mask, 0.0)


class TokenInteraction(nn.Module):
    """Interpolation from cosines of whole vectors to late interaction, by a learned share.

    The score is `whole + share * (interaction - whole)`. The share starts at 0, because frozen
    encoders were never trained to compare single words with frames. It has a gradient from the
    first step, the weights as soon as it is not 0.

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
        """Return `(Q, V)` scores; `whole` where a side is empty.

        Args:
            whole: `(Q, V)` cosines of whole vectors.
            words: as in `interaction`, like the others.
            word_mask: `(Q, L)` bool.
            frames: `(V, T, E)`.
            frame_mask: `(V, T)` bool.
            elements: as in `interaction`.
        """
        a, b = self.words(words, word_mask), self.frames(frames, frame_mask)
        scores = interaction(words, word_mask, frames, frame_mask, a, b, elements=elements)
        return whole + self.share * torch.where(scores > -torch.inf, scores - whole, 0.0)


def _by_length(left: Sequence[Tensor], right: Sequence[Tensor], elements: int) -> Tensor:
    """Return `(Q, V)` of vectors, masks and weights `(Q, L, ...)`, computed in groups of similar
    length.
    """
    (texts, text_position), (videos, video_position) = _groups(left[1]), _groups(right[1])
    rows = []
    for text_rows, length in texts:
        group = [x.index_select(0, text_rows)[:, :length] for x in left]
        columns = []
        for video_rows, width in videos:
            other = [x.index_select(0, video_rows)[:, :width] for x in right]
            columns.append(
                _in_blocks(group, other, length * width, elements // (len(texts) * len(videos)))
            )
        rows.append(torch.cat(columns, 1))
    return torch.cat(rows).index_select(0, text_position).index_select(1, video_position)


def _groups(mask: Tensor) -> tuple[list[tuple[Tensor, int]], Tensor]:
    """Return groups of rows of similar length, each with its maximum, and the position of each row
    among all groups.
    """
    lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)
    order = lengths.argsort(stable=True)
    groups = [
        (rows, max(1, int(lengths[rows].max()) if len(rows) else 1))
        for rows in order.chunk(_GROUPS)
    ]
    return groups, order.argsort()


def _in_blocks(left: Sequence[Tensor], right: Sequence[Tensor], each: int, elements: int) -> Tensor:
    """Return `(Q, V)` of `left`, `(Q, ...)` each, and `right`, `(V, ...)` each.

    A pair has `each` products, a block about `elements`. The backward pass computes blocks again if
    there are several.
    """
    across = min(max(1, len(right[0])), max(1, elements // max(1, each)))
    down = max(1, elements // max(1, each * across))
    # One split rather than slices: the gradient of a slice is as large as the whole.
    columns = list(zip(*(x.split(across) for x in right), strict=True))
    texts = list(zip(*(x.split(down) for x in left), strict=True))
    block: Callable[..., Tensor] = _block
    if torch.is_grad_enabled() and len(columns) * len(texts) > 1:
        block = partial(checkpoint, _block, use_reentrant=False, preserve_rng_state=False)
    return torch.cat(
        [torch.cat([block(*text, *column) for column in columns], 1) for text in texts]
    )


def _block(
    words: Tensor, word_mask: Tensor, a: Tensor, frames: Tensor, frame_mask: Tensor, b: Tensor
) -> Tensor:
    q, n, e = words.shape
    v, m, _ = frames.shape
    cosines = words.reshape(q * n, e) @ frames.reshape(v * m, e).T
    cosines = cosines.to(torch.promote_types(cosines.dtype, torch.float32)).view(q, n, v, m)
    lowest = torch.finfo(cosines.dtype).min
    frame = cosines.masked_fill(~frame_mask, lowest).max(3).values  # (q, n, v)
    word = cosines.masked_fill(~word_mask[:, :, None, None], lowest).max(1).values  # (q, v, m)
    frame = frame.masked_fill(~frame_mask.any(1), 0.0)
    word = word.masked_fill(~word_mask.any(1)[:, None, None], 0.0)
    return (
        torch.einsum("qn,qnv->qv", a.to(frame.dtype), frame)
        + torch.einsum("vm,qvm->qv", b.to(word.dtype), word)
    ) / 2


def _check(
    words: Tensor, word_mask: Tensor, frames: Tensor, frame_mask: Tensor, a: Tensor, b: Tensor
) -> None:
    for name, vectors, mask, weights in (
        ("words", words, word_mask, a),
        ("frames", frames, frame_mask, b),
    ):
        shape = tuple(vectors.shape)
        if vectors.ndim != 3 or not mask.shape == weights.shape == shape[:2]:
            raise ShapeError(
                f"{name} are (N, L, E) with a mask (N, L), weights likewise; not {shape}, "
                f"{tuple(mask.shape)} and weights "
                f"{tuple(weights.shape)}"
            )
    if words.shape[2] != frames.shape[2]:
        raise ShapeError(
            f"words are {words.shape[2]} wide, frames {frames.shape[2]}: two spaces were mixed"
        )
