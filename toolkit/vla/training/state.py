"""State of an unfinished run, as tensors and JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from vla.errors import CacheError
from vla.evaluation.validation import ValidationResult
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
        best: best validation score.
        stale: number of epochs since the best.
        history: one row for each epoch.
        best_weights: of the model after the best epoch; empty before the first.
    """

    epoch: int
    step: int
    losses: dict[str, torch.Tensor]
    best: float
    stale: int
    history: list[dict[str, Any]]
    best_weights: dict[str, torch.Tensor]

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

    def after_epoch(self, result: ValidationResult, weights: dict[str, torch.Tensor]) -> State:
        """Return the state at the end of the epoch.

        Args:
            result: of the validation after the epoch.
            weights: of the model; copied if they are the best.
        """
        is_best = result.score > self.best
        row = {"epoch": self.epoch + 1, "losses": self.mean_losses(), **result.to_json()}
        copy = {k: v.clone() for k, v in weights.items()} if is_best else self.best_weights
        best = max(self.best, result.score)
        return State(
            self.epoch + 1,
            0,
            {},
            best,
            0 if is_best else self.stale + 1,
            [*self.history, row],
            copy,
        )

    def record(self) -> dict[str, Any]:
        """Return everything except the weights, as JSON."""
        return {
            "epoch": self.epoch, "step": self.step, "losses": self.mean_losses(), "best": self.best,
            "stale": self.stale, "history": self.history,
        }  # fmt: skip


@dataclass(frozen=True)
class _Record:
    """Schema of `State.record`."""

    epoch: Count
    step: Count
    losses: dict[str, AnyFloat]
    best: AnyFloat
    stale: Count
    history: list[dict[str, Any]]


def state_tensors(
    state: State, model: AlignmentModel, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Return all tensors of the state, on the CPU: the model, its best weights and the
    optimizer.
    """
    tensors = {f"model.{k}": v for k, v in cpu_state_dict(model).items()}
    tensors |= {f"best.{k}": v for k, v in state.best_weights.items()}
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
    except (RuntimeError, LookupError, ValueError, TypeError) as error:
        raise CacheError(
            f"the state of the unfinished run does not fit its settings ({error})",
            hint=_RESTART_HINT,
        ) from error
    best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
    losses = {k: torch.tensor(v, dtype=torch.float32) for k, v in record.losses.items()}
    return State(record.epoch, record.step, losses, record.best, record.stale, record.history, best)


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
