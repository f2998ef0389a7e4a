"""Data-parallel training: every process projects its part of a batch and gathers all vectors.

Gathered vectors carry their gradient, every process computes the losses of the whole batch from
them, and gradients are averaged. The gradients equal those of one process for any number of
processes, whether or not it divides the batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.model import AlignmentModel, packed_texts
from vla.nn.packing import Packing


def process_rank() -> int:
    """Return the rank that torchrun gave this process; 0 for the main process or a single one."""
    return int(os.environ.get("RANK", "0"))


class ProcessGroup:
    """The processes of a run.

    Attributes:
        rank: index of this process, from 0.
        world_size: number of processes.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.rank, self.world_size = process_rank(), int(os.environ.get("WORLD_SIZE", "1"))
        self._device = device or torch.device("cpu")
        if self.world_size > 1:
            from torch import distributed

            if self._device.type == "cuda":
                self._device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
                torch.cuda.set_device(self._device)
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if self._device.type == "cuda" else "gloo")

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self._device

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is True in any process."""
        if self.world_size == 1:
            return flag
        from torch import distributed

        tensor = torch.tensor([float(flag)], device=self._device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return bool(tensor.item())

    def broadcast(self, value: float) -> float:
        """Return `value` of the first process; blocks until all processes call it."""
        if self.world_size == 1:
            return value
        from torch import distributed

        # As two int32: not every device has float64.
        bits = torch.from_numpy(np.array([value], np.float64).view(np.int32).copy()).to(
            self._device
        )
        distributed.broadcast(bits, 0)
        return float(bits.cpu().numpy().view(np.float64)[0])

    def broadcast_(self, tensor: torch.Tensor) -> None:
        """Overwrite `tensor` by that of the first process; blocks until all processes call it."""
        if self.world_size > 1:
            from torch import distributed

            distributed.broadcast(tensor, 0)

    def barrier(self) -> None:
        """Block until all processes call it."""
        self.broadcast(0.0)

    def align(self, model: AlignmentModel, batch: AlignmentBatch) -> AlignedBatch:
        """Return the batch in the shared space: this process projects its part of it and gathers
        the rest.
        """
        videos = self._bounds(len(batch.frame_mask))
        local = slice(videos[self.rank], videos[self.rank + 1])
        frames = batch.packed_frames[:0]
        if videos[self.rank] < videos[self.rank + 1]:
            packing = Packing(batch.frame_mask[local])
            seconds = packing.unpad(batch.seconds[local])
            frames = model.projector.project_rows(
                packing.unpad(batch.frames[local]), seconds, packing
            )
        counts = batch.frame_mask.sum(1).tolist()
        texts = self._bounds(len(packed_texts(batch)))
        projected = model.project_texts(batch, slice(texts[self.rank], texts[self.rank + 1]))
        return model.assemble(
            batch,
            self.all_gather(frames, [sum(counts[a:b]) for a, b in pairwise(videos)]),
            self.all_gather(projected, [b - a for a, b in pairwise(texts)]),
        )

    def all_gather(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Return the rows of all processes in order of rank, with gradient.

        Args:
            rows: `(counts[rank], E)` of this process.
            counts: rows of each process.

        Returns:
            `(N, E)`, N the sum of `counts`.
        """
        if not sum(counts):
            return rows
        gathered_rows: torch.Tensor = _AllGather.apply(rows, tuple(counts), self.rank)
        return gathered_rows

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over all processes.

        Where no process has one, it stays None.
        """
        from torch import distributed

        all_parameters = list(parameters)
        for dtype in {p.dtype for p in all_parameters}:
            group = [p for p in all_parameters if p.dtype == dtype]
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
            has_gradient = torch.tensor(
                [p.grad is not None for p in group], dtype=dtype, device=group[0].device
            )
            flat = torch.cat([has_gradient, *(gradient.flatten() for gradient in gradients)])
            distributed.all_reduce(flat)
            shares, *means = (flat / self.world_size).split(
                [len(group), *(p.numel() for p in group)]
            )
            for p, mean, share in zip(group, means, shares.tolist(), strict=True):
                p.grad = mean.view_as(p) if share else None

    def _bounds(self, count: int) -> list[int]:
        """Return the start of each process's part of `count` items, and the end of the last."""
        return [count * r // self.world_size for r in range(self.world_size + 1)]


class _AllGather(torch.autograd.Function):
    """All-gather whose gradient is not summed: every process computes the same loss of all rows.

    The gradient is multiplied by the number of processes, because the gradient of a projector,
    of which each process has a part, is averaged afterwards.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, counts: tuple[int, ...], rank: int) -> torch.Tensor:
        from torch import distributed

        ctx.start, ctx.world_size = sum(counts[:rank]), len(counts)
        ctx.length = counts[rank]
        # Padded to the longest: not every backend gathers parts of different sizes.
        local = rows.new_zeros(max(counts), *rows.shape[1:])
        local[: len(rows)] = rows
        parts = [torch.empty_like(local) for _ in counts]
        distributed.all_gather(parts, local)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient[0][ctx.start : ctx.start + ctx.length] * ctx.world_size, None, None
