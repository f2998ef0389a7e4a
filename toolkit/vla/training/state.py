"""State of an unfinished run, as tensors and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vla.errors import CacheError
from vla.evaluation.results import PerQueryScores
from vla.evaluation.validation import ValidationResult
from vla.evaluation.verdict import standard_error
from vla.hints import Hint
from vla.model import AlignmentModel, cpu_state_dict
from vla.storage import records
from vla.storage.records import AnyFloat, Count

_RESTART_HINT = Hint("overwrite_run")


@dataclass(frozen=True)
class State:
    """Progress of a run: `epoch` whole epochs and `step` steps of the next.

    Attributes:
        epoch: number of finished epochs.
        step: number of finished steps of the current epoch.
        losses: float32 scalars, the sums over these steps that add up to the means over the epoch.
        history: one row for each validated epoch.
        best: values by task and query of the validation with the best score.
        selected_epoch: the epoch of the selected weights; 0 for the initial ones.
        selected_weights: of the model after that epoch.
    """

    epoch: int
    step: int
    losses: dict[str, torch.Tensor]
    history: list[dict[str, Any]]
    best: Mapping[str, PerQueryScores]
    selected_epoch: int
    selected_weights: dict[str, torch.Tensor]

    @classmethod
    def initial(cls, result: ValidationResult, weights: dict[str, torch.Tensor]) -> State:
        """Return the state before the first step.

        Args:
            result: of the validation of the initial model.
            weights: of that model; copied.
        """
        return cls(0, 0, {}, [], result.selection, 0, {k: v.clone() for k, v in weights.items()})

    def after_step(self, losses: dict[str, torch.Tensor], steps: int) -> State:
        """Return the state after a step with these losses, one of `steps` of the epoch."""
        # In float32 on their device: nothing waits for them, and the JSON restores the same bits.
        sums = {
            k: self.losses.get(k, torch.zeros_like(v)).to(v.device) + v / steps
            for k, v in losses.items()
        }
        return replace(self, step=self.step + 1, losses=self.losses | sums)

    def mean_losses(self) -> dict[str, float]:
        """Return the losses as numbers."""
        return {name: float(value) for name, value in self.losses.items()}

    def after_epoch(self) -> State:
        """Return the state at the end of the epoch, before its validation."""
        return replace(self, epoch=self.epoch + 1, step=0)

    def after_validation(self, result: ValidationResult, weights: dict[str, torch.Tensor]) -> State:
        """Return the state after the validation of an epoch.

        The weights of the latest epoch whose score is within one standard error of the best are
        selected: differences below that are noise, and later epochs had a lower learning rate.

        Args:
            result: of the validation.
            weights: of the model; copied if they are selected.
        """
        row = {"epoch": self.epoch, "losses": self.mean_losses(), **result.to_json()}
        state = replace(self, losses={}, history=[*self.history, row])
        best_score = _score(self.best)
        if result.score > best_score:
            state = replace(state, best=result.selection)
        elif best_score - result.score > standard_error(result.selection, self.best):
            return state
        copy = {k: v.clone() for k, v in weights.items()}
        return replace(state, selected_epoch=self.epoch, selected_weights=copy)

    def without_losses(self) -> State:
        """Return the state at the start of an epoch that follows one without validation."""
        return replace(self, losses={})

    def record(self) -> dict[str, Any]:
        """Return everything except the weights, as JSON."""
        return {
            "epoch": self.epoch, "step": self.step, "losses": self.mean_losses(),
            "history": self.history, "selected_epoch": self.selected_epoch, "tasks": list(self.best),
        }  # fmt: skip


@dataclass(frozen=True)
class _Record:
    """Schema of `State.record`."""

    epoch: Count
    step: Count
    losses: dict[str, AnyFloat]
    history: list[dict[str, Any]]
    selected_epoch: Count
    tasks: list[str]


def state_tensors(
    state: State, model: AlignmentModel, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Return all tensors of the state, on the CPU: the model, the selected weights, the values of
    the best validation and the optimizer.
    """
    tensors = {f"model.{k}": v for k, v in cpu_state_dict(model).items()}
    tensors |= {f"selected.{k}": v for k, v in state.selected_weights.items()}
    for task, values in enumerate(state.best.values()):
        tensors[f"values.{task}"] = torch.from_numpy(np.array(values.by_query, np.float64))
        tensors[f"videos.{task}"] = torch.from_numpy(np.array(values.videos, np.int64))
    for i, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v.detach().cpu().contiguous() for k, v in values.items()}
    return tensors


def restore_state(
    checkpoint: tuple[dict[str, torch.Tensor], dict[str, Any]],
    model: AlignmentModel,
    optimizer: torch.optim.Optimizer,
) -> State:
    """Return the state of a checkpoint, and load its model and optimizer.

    Args:
        checkpoint: `state_tensors` and `State.record`.
        model: overwritten.
        optimizer: of the model; overwritten.

    Raises:
        CacheError: the checkpoint does not fit the model.
    """
    tensors, content = checkpoint
    record = records.decode(_Record, content, "the state of the unfinished run", _RESTART_HINT)
    try:
        _load_tensors(tensors, model, optimizer)
        best = {
            task: PerQueryScores(tensors[f"values.{i}"].numpy(), tensors[f"videos.{i}"].numpy())
            for i, task in enumerate(record.tasks)
        }
    except (RuntimeError, LookupError, ValueError, TypeError) as error:
        raise CacheError(
            f"the state of the unfinished run does not fit its settings ({error})",
            hint=_RESTART_HINT,
        ) from error
    selected_weights = {
        k.removeprefix("selected."): v for k, v in tensors.items() if k.startswith("selected.")
    }
    losses = {k: torch.tensor(v, dtype=torch.float32) for k, v in record.losses.items()}
    return State(
        record.epoch,
        record.step,
        losses,
        record.history,
        best,
        record.selected_epoch,
        selected_weights,
    )


def _score(parts: Mapping[str, PerQueryScores]) -> float:
    """Return the mean over the tasks; below every score without tasks."""
    return float(np.mean([part.value for part in parts.values()])) if parts else -math.inf


def _load_tensors(
    tensors: dict[str, torch.Tensor], model: AlignmentModel, optimizer: torch.optim.Optimizer
) -> None:
    model.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
