"""One optimizer step: AdamW with warm-up and cosine decay.

Dropout is a function of seed and step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from vla.batches.batch import AlignmentBatch
from vla.encoders._device import has_bf16_hardware
from vla.model import AlignmentModel
from vla.training import grad_cache
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.objective import Objective
from vla.training.sampler import BatchPlan


class Step:
    """Optimizer of a model; its only state are the moments of AdamW.

    Attributes:
        optimizer: AdamW with weight decay on matrices only.
    """

    def __init__(
        self,
        model: AlignmentModel,
        objective: Objective,
        config: TrainConfig,
        total: int,
        processes: ProcessGroup,
    ) -> None:
        self._model, self._objective, self._config, self._total = model, objective, config, total
        self._processes = processes
        self._uses_bf16 = config.precision == "bf16" or (
            config.precision == "auto" and uses_bf16(processes.device)
        )
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )

    def __call__(self, plan: BatchPlan, number: int) -> dict[str, torch.Tensor]:
        """Take step `number` on `plan`.

        A large step is divided into micro-batches if its losses allow it and there is one process.

        Returns:
            `{name: scalar}`, the losses before the step; empty if the batch has none.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(number)
        seed, device = self._config.seed + number, self._processes.device
        if self._processes.world_size == 1 and grad_cache.can_split(
            self._model, self._objective, plan
        ):
            self._model.train()
            self.optimizer.zero_grad(set_to_none=True)
            with _preserve_random_state(device):
                losses = grad_cache.gradients(
                    self._model, self._objective, plan, seed, self._precision, device
                )
        else:
            losses = self.gradients(plan.batch().to(device), seed)
        if losses:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self.optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def gradients(self, batch: AlignmentBatch, seed: int) -> dict[str, torch.Tensor]:
        """Return the losses on `batch`, and set the gradients of the model to those of their sum.

        The gradients are equal in all processes that share the step.
        """
        self._model.train()
        losses = self._losses(batch, seed)
        if losses:
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
            if self._processes.world_size > 1:
                self._processes.average_gradients(self._model.parameters())
        return losses

    def learning_rate(self, number: int) -> float:
        """Return the learning rate of step `number`: linear warm-up, then cosine decay to 1 %."""
        warmup_steps = max(1, round(self._config.warmup * self._total))
        progress = (number - warmup_steps) / max(1, self._total - warmup_steps)
        if number < warmup_steps:
            share = (number + 1) / warmup_steps
        else:
            share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        return self._config.learning_rate * share

    def _losses(self, batch: AlignmentBatch, seed: int) -> dict[str, torch.Tensor]:
        with _preserve_random_state(self._processes.device):
            # Each process has its own noise for its own videos; computations of all processes share
            # one seed.
            torch.manual_seed(seed + (self._processes.rank << 40))
            is_single = self._processes.world_size == 1
            with self._precision():
                aligned = (
                    self._model(batch) if is_single else self._processes.align(self._model, batch)
                )
            if not is_single:
                torch.manual_seed(seed)
            losses: dict[str, torch.Tensor] = self._objective(self._model, batch, aligned)
        return losses

    def _precision(self) -> AbstractContextManager[None]:
        # Not entered in float32: some devices have no autocast.
        return (
            torch.autocast(self._processes.device.type, torch.bfloat16)
            if self._uses_bf16
            else nullcontext()
        )


def _preserve_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Return a context that restores the random state: a library must not reseed its user's
    program.
    """
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def uses_bf16(device: torch.device) -> bool:
    """Return whether the device has hardware for products of bfloat16 matrices.

    This depends on the kind of the device and not on a measurement, which the load of the machine
    would decide: a run must resume in the precision in which it began.
    """
    if device.type == "cuda":
        return has_bf16_hardware(device)
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and tiles is not None and bool(tiles())


@contextmanager
def deterministic(is_on: bool) -> Iterator[None]:
    """If `is_on`, replace or refuse operations of torch whose results vary from run to run."""
    before = torch.are_deterministic_algorithms_enabled()
    if is_on:
        # Read when cuBLAS is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
