"""Where an unfinished run stands, as tensors and numbers, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from vla.errors import CacheError
from vla.evaluation.validation import ValidationResult
from vla.hints import Hint
from vla.model import AlignmentModel, weights_of
from vla.storage import records
from vla.storage.records import AnyFloat, Count

_WAY_ON = Hint("overwrite_run")


@dataclass(frozen=True)
class State:
    """Where a run stands, `step` steps into the epoch after `epoch` whole ones.

    Attributes:
        epoch: passes made.
        step: steps of the next pass made.
        losses: float32 scalars, of these steps: what they add to the means over the pass.
        best: score of the best pass.
        stale: passes since then.
        history: a row for each pass.
        best_weights: the model's after the best pass; none before there is one.
    """

    epoch: int
    step: int
    losses: dict[str, torch.Tensor]
    best: float
    stale: int
    history: list[dict[str, Any]]
    best_weights: dict[str, torch.Tensor]

    def stepped(self, losses: dict[str, torch.Tensor], steps: int) -> State:
        """One step later, which is one of `steps` of its pass."""
        # In float32 on their device: nothing waits for them, and what is kept as text comes back with the same bits.
        added = {k: self.losses.get(k, torch.zeros_like(v)).to(v.device) + v / steps for k, v in losses.items()}
        return replace(self, step=self.step + 1, losses=self.losses | added)

    def mean_losses(self) -> dict[str, float]:
        """The losses as numbers."""
        return {name: float(value) for name, value in self.losses.items()}

    def after(self, result: ValidationResult, weights: dict[str, torch.Tensor]) -> State:
        """The pass ended, with what was measured then."""
        improved = result.score > self.best
        row = {"epoch": self.epoch + 1, "losses": self.mean_losses(), **result.to_json()}
        copy = {k: v.clone() for k, v in weights.items()} if improved else self.best_weights
        best = max(self.best, result.score)
        return State(self.epoch + 1, 0, {}, best, 0 if improved else self.stale + 1, [*self.history, row], copy)

    def record(self) -> dict[str, Any]:
        """All but the weights, as JSON."""
        return {
            "epoch": self.epoch, "step": self.step, "losses": self.mean_losses(), "best": self.best,
            "stale": self.stale, "history": self.history,
        }  # fmt: skip


@dataclass(frozen=True)
class _Record:
    """What `State.record` gives."""

    epoch: Count
    step: Count
    losses: dict[str, AnyFloat]
    best: AnyFloat
    stale: Count
    history: list[dict[str, Any]]


def tensors(state: State, model: AlignmentModel, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Everything that has to be kept, on the CPU, by name."""
    found = {f"model.{k}": v for k, v in weights_of(model).items()}
    found |= {f"best.{k}": v for k, v in state.best_weights.items()}
    for i, values in optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{i}.{k}": v.detach().cpu().contiguous() for k, v in values.items()}
    return found


def restore_state(
    kept: tuple[dict[str, torch.Tensor], dict[str, Any]], model: AlignmentModel, optimizer: torch.optim.Optimizer
) -> State:
    """Where the run stands, its model and optimizer put into that state; raises CacheError where these do not fit."""
    found, told = kept
    record = records.decode(_Record, told, "the state of the unfinished run", _WAY_ON)
    try:
        _restore(found, model, optimizer)
    except (RuntimeError, LookupError, ValueError, TypeError) as error:
        raise CacheError(
            f"the state of the unfinished run does not fit its settings ({error})", hint=_WAY_ON
        ) from error
    best = {k.removeprefix("best."): v for k, v in found.items() if k.startswith("best.")}
    losses = {k: torch.tensor(v, dtype=torch.float32) for k, v in record.losses.items()}
    return State(record.epoch, record.step, losses, record.best, record.stale, record.history, best)


def _restore(found: dict[str, torch.Tensor], model: AlignmentModel, optimizer: torch.optim.Optimizer) -> None:
    model.load_state_dict({k.removeprefix("model."): v for k, v in found.items() if k.startswith("model.")})
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in found.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
