"""One step of descent: AdamW along a warm-up and a cosine, dropout a function of seed and step."""

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
    """What moves a model's weights; it keeps AdamW's moments and nothing else.

    Attributes:
        optimizer: AdamW; weight decay on matrices only.
    """

    def __init__(
        self, model: AlignmentModel, objective: Objective, config: TrainConfig, total: int, ranks: ProcessGroup
    ) -> None:
        self._model, self._objective, self._config, self._total = model, objective, config, total
        self._ranks = ranks
        self._half = config.precision == "bf16" or (config.precision == "auto" and uses_bf16(ranks.device))
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=config.learning_rate, betas=(0.9, 0.98), fused=True
        )

    def __call__(self, drawn: BatchPlan, number: int) -> dict[str, torch.Tensor]:
        """Take step `number` on `drawn`; `{name: scalar}` of the losses before it, empty if there was nothing to learn from.

        A large step is taken in pieces, where its losses allow it and no other processes share it.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number)
        seed, device = self._config.seed + number, self._ranks.device
        if self._ranks.count == 1 and grad_cache.can_split(self._model, self._objective, drawn):
            self._model.train()
            self.optimizer.zero_grad(set_to_none=True)
            with _own_random(device):
                parts = grad_cache.gradients(self._model, self._objective, drawn, seed, self._precision, device)
        else:
            parts = self.gradients(drawn.batch().to(device), seed)
        if parts:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self.optimizer.step()
        return {name: value.detach() for name, value in parts.items()}

    def gradients(self, batch: AlignmentBatch, seed: int) -> dict[str, torch.Tensor]:
        """The losses on `batch`; the model's gradients are those of their sum, the same in every process that shares the step."""
        self._model.train()
        parts = self._losses(batch, seed)
        if parts:
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack(list(parts.values())).sum().backward()
            if self._ranks.count > 1:
                self._ranks.average_gradients(self._model.parameters())
        return parts

    def rate(self, number: int) -> float:
        """The learning rate of step `number`: up along a line, then down along a cosine to 1 %."""
        warm = max(1, round(self._config.warmup * self._total))
        done = (number - warm) / max(1, self._total - warm)
        share = (number + 1) / warm if number < warm else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        return self._config.learning_rate * share

    def _losses(self, batch: AlignmentBatch, seed: int) -> dict[str, torch.Tensor]:
        with _own_random(self._ranks.device):
            # Each process has noise of its own for its own videos, and what all compute is the same for all.
            torch.manual_seed(seed + (self._ranks.rank << 40))
            with self._precision():
                alone = self._ranks.count == 1
                aligned = self._model(batch) if alone else self._ranks.aligned(self._model, batch)
            if not alone:
                torch.manual_seed(seed)
            losses: dict[str, torch.Tensor] = self._objective(self._model, batch, aligned)
        return losses

    def _precision(self) -> AbstractContextManager[None]:
        # Not entered where it is off: some devices have none.
        return torch.autocast(self._ranks.device.type, torch.bfloat16) if self._half else nullcontext()


def _own_random(device: torch.device) -> AbstractContextManager[None]:
    """The caller's random state is given back at the end: a library must not reseed its user's program."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def uses_bf16(device: torch.device) -> bool:
    """True where products of bfloat16 matrices have hardware of their own. By kind and not by a measurement, which the load
    of the machine would decide: a run must go on in the precision that it began in.
    """
    if device.type == "cuda":
        return has_bf16_hardware(device)
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and tiles is not None and bool(tiles())


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """If `wanted`, operations of torch whose results vary from run to run are replaced by ones whose do not, or refused."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        # Read when CUDA's library of products is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
