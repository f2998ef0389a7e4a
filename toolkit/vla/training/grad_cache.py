"""Gradient caching: a step over more videos than fit into memory, with the gradient of the whole.

The losses of both levels compare pooled embeddings of videos, texts, moments and segments. These
are computed for one micro-batch after another, without a graph; the losses and their gradients with
respect to the embeddings are computed over all of them; then each micro-batch is projected again,
with a graph, and receives its part of the gradient. The gradient is exact, for one more forward
pass.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.model import AlignmentModel
from vla.training.objective import Objective
from vla.training.pooled_embeddings import PairTargets, PooledEmbeddings
from vla.training.sampler import BatchPlan

MAX_FRAMES = 1 << 15
"""Frames of the largest step that is computed as a whole.

Each takes about 40 KB until its gradient is known.
"""
_MICRO_BATCH_FRAMES = 1 << 13


def can_split(model: AlignmentModel, objective: Objective, plan: BatchPlan) -> bool:
    """Return whether the step is large, and no loss reads single frames, as those of heads do."""
    return plan.num_frames > MAX_FRAMES and objective.uses_vectors_only(model)


def gradients(
    model: AlignmentModel,
    objective: Objective,
    plan: BatchPlan,
    seed: int,
    precision: Callable[[], AbstractContextManager[None]],
    device: torch.device,
    max_frames: int = _MICRO_BATCH_FRAMES,
) -> dict[str, torch.Tensor]:
    """Return the losses of a step and add their gradients to those of the model.

    Args:
        model: in training mode.
        objective: one for which `can_split` is True.
        plan: videos, captions and questions of the step.
        seed: of dropout and noise, which differ from those of the undivided step: each micro-batch
            has its own.
        precision: context in which the projector computes.
        device: of the model.
        max_frames: frames of a micro-batch; a longer video is one by itself.
    """

    def micro_batches() -> Iterator[tuple[AlignmentBatch, AlignedBatch]]:
        for number, batch in enumerate(plan.micro_batches(max_frames)):
            torch.manual_seed(seed + (number << 40))
            on_device = batch.to(device)
            with precision():
                aligned = model(on_device)
            yield on_device, aligned
            # Free it before the next one is computed.
            del batch, on_device, aligned

    has_segments = objective.is_segment
    with torch.no_grad():
        forward = [
            (
                PooledEmbeddings.from_batch(aligned, batch, has_segments),
                PairTargets.from_batch(batch, has_segments),
                len(batch.frames),
            )
            for batch, aligned in micro_batches()
        ]
    embeddings, targets, num_videos = zip(*forward, strict=True)
    leaves = PooledEmbeddings(
        *(tensor.requires_grad_() for tensor in PooledEmbeddings.concat(embeddings).tensors)
    )
    del forward, embeddings
    losses = objective.from_vectors(leaves, PairTargets.concat(targets, num_videos), model.scale)
    if not losses:
        return losses
    torch.stack(list(losses.values())).sum().backward()
    anchor, offsets = torch.zeros((), device=device), [0] * len(leaves.tensors)
    for batch, aligned in micro_batches():
        surrogate = torch.zeros((), device=device)
        tensors = PooledEmbeddings.from_batch(aligned, batch, has_segments).tensors
        for i, (tensor, leaf) in enumerate(zip(tensors, leaves.tensors, strict=True)):
            if leaf.grad is not None and len(tensor):
                gradient = leaf.grad[offsets[i] : offsets[i] + len(tensor)]
                # Sentences were padded to those of all micro-batches.
                surrogate = surrogate + (tensor * gradient[tuple(map(slice, tensor.shape))]).sum()
            offsets[i] += len(tensor)
        if objective.anchor_weight > 0:
            distance = objective.anchor_distance(
                model, aligned, batch, plan.num_frames, plan.num_texts
            )
            share = objective.anchor_weight * distance
            surrogate, anchor = surrogate + share, anchor + share.detach()
        if surrogate.requires_grad:
            surrogate.backward()
        del batch, aligned, tensors, tensor, surrogate
    return {**losses, "pull": anchor} if objective.anchor_weight > 0 else losses
