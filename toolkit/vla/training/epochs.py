"""The epochs of a run: their batches, their steps, and the state that they resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from vla.batches.batch import AlignmentBatch
from vla.batches.corpus import Corpus
from vla.errors import UsageError
from vla.evaluation.validation import ValidationResult
from vla.model import AlignmentModel, cpu_state_dict
from vla.progress import Progress, ProgressCallback
from vla.training.checkpoint import load_state, save_state
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.hard_negatives import group_into_batches, nearest_videos
from vla.training.interrupt import InterruptFlag
from vla.training.sampler import BatchPlan, BatchSampler
from vla.training.schedule import Schedule
from vla.training.state import State, restore_state, state_tensors
from vla.training.step import Step
from vla.training.throughput import Throughput

_ZERO_LOSSES = "every loss of this epoch is 0: no step had captions of two videos, or of two moments, to tell apart"


class EpochSampler:
    """Sampler of the batches of every epoch, a function of the seed, the epoch and the step alone.

    Attributes:
        steps: steps of an epoch.
    """

    def __init__(self, corpus: Corpus, rows: np.ndarray, config: TrainConfig) -> None:
        self._rows, self._config = rows, config
        self._sampler, self._nearest = (
            BatchSampler(corpus, config),
            nearest_videos(corpus, rows, config.seed),
        )
        self.steps = math.ceil(len(rows) / config.batch_size)

    def videos(self, epoch: int) -> list[np.ndarray]:
        """Return the videos of each step of an epoch."""
        config = self._config
        return group_into_batches(
            self._rows,
            self._nearest,
            config.batch_size,
            config.hard_negative_group_size,
            config.seed,
            epoch,
        )

    def plan(self, videos: np.ndarray, number: int) -> BatchPlan:
        """Return the plan of step `number` of the run, with captions of `videos`."""
        return self._sampler.plan(videos, number)

    def batch(self, videos: np.ndarray, number: int) -> AlignmentBatch:
        """Return the same as one batch."""
        return self._sampler(videos, number)


class Epochs:
    """Epochs of a run, from the step at which it was interrupted, with its state on disk.

    Attributes:
        state: progress of the run.
    """

    def __init__(
        self, model: AlignmentModel, step: Step, sampler: EpochSampler, schedule: Schedule, start: ValidationResult,
        config: TrainConfig, folder: Path, identity: str, processes: ProcessGroup, progress: ProgressCallback,
    ) -> None:  # fmt: skip
        self._model, self._step, self._sampler, self._config = model, step, sampler, config
        self._schedule = schedule
        self._folder, self._identity, self._processes, self._progress = (
            folder,
            identity,
            processes,
            progress,
        )
        self.state = State.initial(start, cpu_state_dict(model))
        checkpoint = load_state(folder, identity, self._warn)
        processes.barrier()
        if checkpoint is not None:
            self.state = restore_state(checkpoint, model, step.optimizer)
            self._note(f"resumed after {_describe_position(self.state, sampler.steps)}")
        self._throughput = Throughput(self._number, sampler.steps * schedule.epochs)

    @property
    def is_over(self) -> bool:
        """Whether the last epoch is done."""
        return self.state.epoch >= self._schedule.epochs

    def run(self, interrupt: InterruptFlag) -> None:
        """Take the remaining steps of the epoch.

        Raises:
            KeyboardInterrupt: `interrupt` is set; the state is saved.
            UsageError: training diverged.
        """
        steps = self._sampler.steps
        for videos in self._sampler.videos(self.state.epoch)[self.state.step :]:
            losses = self._step(self._sampler.plan(videos, self._number), self._number)
            self.state = self.state.after_step(losses, steps)
            self._throughput.step(len(videos))
            is_interrupted = self._processes.any(interrupt.is_set)
            if self._processes.rank == 0 and (is_interrupted or self._throughput.should_save()):
                self._save()
            if is_interrupted:
                self._note(_interruption_message(self.state, steps, self._schedule.epochs))
                raise KeyboardInterrupt
            if self.state.step < steps and self._throughput.should_show():
                self._show({name: float(value) for name, value in losses.items()})
        _require_finite(self._model, self.state.epoch + 1, self._config)

    def end(self) -> bool:
        """End the epoch; return whether it is to be validated."""
        self.state = self.state.after_epoch()
        _warn_if_idle(self.state, self._schedule.epochs, self._progress)
        if self._schedule.validates(self.state.epoch):
            return True
        self._show(self.state.mean_losses())
        self.state = self.state.without_losses()
        return False

    def record(self, result: ValidationResult, headline: Mapping[str, float]) -> None:
        """Record the validation of the last epoch, and select its weights if they are as good as the
        best.

        Args:
            result: its score compares epochs.
            headline: metrics for the progress line.
        """
        self.state = self.state.after_validation(result, cpu_state_dict(self._model))
        self._show({**self.state.history[-1]["losses"], "score": result.score, **headline})

    @property
    def _number(self) -> int:
        """Number of steps taken."""
        return self.state.epoch * self._sampler.steps + self.state.step

    def _save(self) -> None:
        start = time.monotonic()
        arrays = state_tensors(self.state, self._model, self._step.optimizer)
        save_state(self._folder, self._identity, arrays, self.state.record())
        self._throughput.record_save(start)

    def _show(self, metrics: Mapping[str, float]) -> None:
        rate = self._step.learning_rate(max(0, self._number - 1))
        values = {**metrics, "rate": rate, **self._throughput.values()}
        share = self.state.step / self._sampler.steps
        self._progress(
            Progress("train", self.state.epoch, self._schedule.epochs, "", "info", values, share)
        )

    def _note(self, message: str) -> None:
        self._progress(Progress("train", self.state.epoch, self._schedule.epochs, message, "note"))

    def _warn(self, message: str) -> None:
        self._progress(Progress("train", message=message, level="warning"))


def _describe_position(state: State, steps: int) -> str:
    """Return the position of a run in words."""
    if state.step:
        return f"step {state.step} of {steps} in epoch {state.epoch + 1}"
    return f"epoch {state.epoch}"


def _require_finite(model: AlignmentModel, epoch: int, config: TrainConfig) -> None:
    """Raise UsageError if training diverged: weights that are not finite can neither be measured
    nor used.
    """
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise UsageError(
            f"training diverged in epoch {epoch}: the weights are no longer numbers. Use a lower "
            f"learning rate "
            f"than {config.learning_rate:g}; the run was not kept"
        )


def _interruption_message(state: State, steps: int, epochs: int) -> str:
    position = _describe_position(state, steps)
    return (
        f"stopped after {position} ({epochs} epochs in all); its state is kept: the same "
        f"command "
        "resumes it, to the same result"
    )


def _warn_if_idle(state: State, epochs: int, progress: ProgressCallback) -> None:
    if not any(value for name, value in state.mean_losses().items() if name != "pull"):
        progress(Progress("train", state.epoch, epochs, _ZERO_LOSSES, "warning"))
