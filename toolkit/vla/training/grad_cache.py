"""A step over more videos than fit into memory at once, with the gradient of the whole.

The losses of both levels compare vectors of videos, texts, moments and parts. These are made piece by piece, without a graph;
the losses and their gradients are taken from all of them; then each piece is made again, with a graph, and handed its part of
the gradient. That is the gradient of the whole step, neither estimated nor delayed, for one more pass forward.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from vla.batches.batch import Aligned, AlignmentBatch
from vla.model import AlignmentModel
from vla.training.objective import Objective
from vla.training.pooled_embeddings import PairTargets, PooledEmbeddings
from vla.training.sampler import BatchPlan

MOST_FRAMES = 1 << 15
"""Frames of a step that are worked on as a whole; each takes some 40 KB until its gradient is known."""
_PIECE = 1 << 13


def can_split(model: AlignmentModel, objective: Objective, drawn: BatchPlan) -> bool:
    """True if the step is large, and no loss asks for frames, as heads do."""
    return drawn.frames > MOST_FRAMES and objective.is_of_vectors(model)


def gradients(
    model: AlignmentModel,
    objective: Objective,
    drawn: BatchPlan,
    seed: int,
    precision: Callable[[], AbstractContextManager[None]],
    device: torch.device,
    most: int = _PIECE,
) -> dict[str, torch.Tensor]:
    """The losses of the step; gradients are added to those that the model has.

    Args:
        model: in training mode.
        objective: whose losses `can_split` says yes to.
        drawn: the step's videos, captions and questions.
        seed: of dropout and noise. Each piece has its own, so they are others than those of the whole step.
        precision: what the projector computes in.
        device: of the model.
        most: frames of a piece; a longer video is a piece by itself.
    """

    def pieces() -> Iterator[tuple[AlignmentBatch, Aligned]]:
        for number, batch in enumerate(drawn.pieces(most)):
            torch.manual_seed(seed + (number << 40))
            moved = batch.to(device)
            with precision():
                aligned = model(moved)
            yield moved, aligned
            # Or it would be held while the next is made.
            del batch, moved, aligned

    timed = objective.is_segment
    with torch.no_grad():
        made = [
            (PooledEmbeddings.of(aligned, batch, timed), PairTargets.of(batch, timed), len(batch.frames))
            for batch, aligned in pieces()
        ]
    vectors, told, videos = zip(*made, strict=True)
    leaves = PooledEmbeddings(*(some.requires_grad_() for some in PooledEmbeddings.joined(vectors).each))
    del made, vectors
    parts = objective.of_vectors(leaves, PairTargets.joined(told, videos), model.scale)
    if not parts:
        return parts
    torch.stack(list(parts.values())).sum().backward()
    pull, reached = torch.zeros((), device=device), [0] * len(leaves.each)
    for batch, aligned in pieces():
        own = torch.zeros((), device=device)
        for i, (some, leaf) in enumerate(
            zip(PooledEmbeddings.of(aligned, batch, timed).each, leaves.each, strict=True)
        ):
            if leaf.grad is not None and len(some):
                gradient = leaf.grad[reached[i] : reached[i] + len(some)]
                # Sentences were padded to those of all pieces.
                own = own + (some * gradient[tuple(map(slice, some.shape))]).sum()
            reached[i] += len(some)
        if objective.pull > 0:
            share = objective.pull * objective.pulled(model, aligned, batch, drawn.frames, drawn.texts)
            own, pull = own + share, pull + share.detach()
        if own.requires_grad:
            own.backward()
        del batch, aligned, some, own
    return {**parts, "pull": pull} if objective.pull > 0 else parts
