"""Processes that share every step of a run: each projects its part of the videos, all know all of the vectors.

What is gathered carries its gradient, every process computes the losses of the whole batch from it, and gradients are
averaged: they are those of one process, whatever the number of processes, and whether or not it divides the batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from vla.batches.batch import Aligned, AlignmentBatch
from vla.model import AlignmentModel, texts_of
from vla.nn.packing import Packing


def rank_here() -> int:
    """The number that torchrun gave this process; 0 for the one that writes and speaks, and for one that is alone."""
    return int(os.environ.get("RANK", "0"))


class ProcessGroup:
    """The processes of a run.

    Attributes:
        rank: which of them this is, from 0.
        count: how many there are.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.rank, self.count = rank_here(), int(os.environ.get("WORLD_SIZE", "1"))
        self._device = device or torch.device("cpu")
        if self.count > 1:
            from torch import distributed

            if self._device.type == "cuda":
                self._device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
                torch.cuda.set_device(self._device)
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if self._device.type == "cuda" else "gloo")

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self._device

    def any(self, here: bool) -> bool:
        """True if it is true in any of them."""
        if self.count == 1:
            return here
        from torch import distributed

        flag = torch.tensor([float(here)], device=self._device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag.item())

    def told(self, value: float) -> float:
        """What `value` is in the first; the others' own goes unread, and all wait for it."""
        if self.count == 1:
            return value
        from torch import distributed

        # Halves of its bits: not every device has float64.
        found = torch.from_numpy(np.array([value], np.float64).view(np.int32).copy()).to(self._device)
        distributed.broadcast(found, 0)
        return float(found.cpu().numpy().view(np.float64)[0])

    def broadcast_(self, tensor: torch.Tensor) -> None:
        """Overwrite `tensor` with what it holds in the first of them; all wait for it."""
        if self.count > 1:
            from torch import distributed

            distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Nobody goes on before all are here."""
        self.told(0.0)

    def aligned(self, model: AlignmentModel, batch: AlignmentBatch) -> Aligned:
        """The batch in the shared space: this process projects its part of it, and has the rest from the others."""
        videos = self._cuts(len(batch.frame_mask))
        mine = slice(videos[self.rank], videos[self.rank + 1])
        frames = batch.rows[:0]
        if videos[self.rank] < videos[self.rank + 1]:
            layout = Packing(batch.frame_mask[mine])
            seconds = layout.rows(batch.seconds[mine])
            frames = model.projector.project_rows(layout.rows(batch.frames[mine]), seconds, layout)
        counts = batch.frame_mask.sum(1).tolist()
        texts = self._cuts(len(texts_of(batch)))
        projected = model.project_texts(batch, slice(texts[self.rank], texts[self.rank + 1]))
        return model.aligned(
            batch,
            self.gathered(frames, [sum(counts[a:b]) for a, b in pairwise(videos)]),
            self.gathered(projected, [b - a for a, b in pairwise(texts)]),
        )

    def gathered(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """`(N, E)` the rows of all, of which process r has `counts[r]`, in their order; the gradient finds its way back."""
        if not sum(counts):
            return rows
        found: torch.Tensor = _Gathered.apply(rows, tuple(counts), self.rank)
        return found

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Every gradient becomes the mean over all processes; where none has one, it stays None."""
        from torch import distributed

        known = list(parameters)
        for dtype in {p.dtype for p in known}:
            some = [p for p in known if p.dtype == dtype]
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
            has = torch.tensor([p.grad is not None for p in some], dtype=dtype, device=some[0].device)
            flat = torch.cat([has, *(part.flatten() for part in parts)])
            distributed.all_reduce(flat)
            held, *means = (flat / self.count).split([len(some), *(p.numel() for p in some)])
            for p, mean, is_there in zip(some, means, held.tolist(), strict=True):
                p.grad = mean.view_as(p) if is_there else None

    def _cuts(self, count: int) -> list[int]:
        """Where each process's part of `count` begins, and where the last ends."""
        return [count * r // self.count for r in range(self.count + 1)]


class _Gathered(torch.autograd.Function):
    """Every process computes the same loss of what is gathered, so its own part's gradient is whole: nothing is to be summed.

    It is multiplied by the number of processes, because a projector's gradient, of which each has a part, is averaged after.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, counts: tuple[int, ...], rank: int) -> torch.Tensor:
        from torch import distributed

        ctx.place, ctx.count = sum(counts[:rank]), len(counts)
        ctx.mine = counts[rank]
        # As long as the longest: not every backend gathers parts of different sizes.
        sent = rows.new_zeros(max(counts), *rows.shape[1:])
        sent[: len(rows)] = rows
        found = [torch.empty_like(sent) for _ in counts]
        distributed.all_gather(found, sent)
        return torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient[0][ctx.place : ctx.place + ctx.mine] * ctx.count, None, None
