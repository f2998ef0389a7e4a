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
from vla.model import AlignmentModel, weights_of
from vla.progress import Progress, ProgressCallback
from vla.training.checkpoint import load_state, save_state
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.hard_negatives import batches, nearest_videos
from vla.training.interrupt import InterruptFlag
from vla.training.sampler import BatchPlan, BatchSampler
from vla.training.state import State, restore_state, tensors
from vla.training.step import Step
from vla.training.throughput import Throughput

_NOTHING = "every loss of this epoch is 0: no step had captions of two videos, or of two moments, to tell apart"


class Sampler:
    """Draws the batches of every epoch; what it draws depends on the seed, the epoch and the step alone."""

    def __init__(self, corpus: Corpus, rows: np.ndarray, config: TrainConfig) -> None:
        self._rows, self._config = rows, config
        self._draws, self._near = BatchSampler(corpus, config), nearest_videos(corpus, rows, config.seed)
        self.steps = math.ceil(len(rows) / config.batch_videos)

    def videos(self, epoch: int) -> list[np.ndarray]:
        """Return the videos of each step of an epoch."""
        config = self._config
        return batches(self._rows, self._near, config.batch_videos, config.look_alikes, config.seed, epoch)

    def drawn(self, videos: np.ndarray, number: int) -> BatchPlan:
        """Return step `number` of the run, with captions of `videos`."""
        return self._draws.drawn(videos, number)

    def batch(self, videos: np.ndarray, number: int) -> AlignmentBatch:
        """Return the same in one batch."""
        return self._draws(videos, number)


class Epochs:
    """Takes the steps of a run from where it was left, and keeps its state on disk.

    Attributes:
        state: where the run stands.
    """

    def __init__(
        self, model: AlignmentModel, step: Step, sampler: Sampler, config: TrainConfig, folder: Path, identity: str,
        ranks: ProcessGroup, progress: ProgressCallback,
    ) -> None:  # fmt: skip
        self._model, self._step, self._sampler, self._config = model, step, sampler, config
        self._folder, self._identity, self._ranks, self._progress = folder, identity, ranks, progress
        self.state = State(0, 0, {}, -1.0, 0, [], {})
        saved = load_state(folder, identity, self._warn)
        ranks.wait()
        if saved is not None:
            self.state = restore_state(saved, model, step.optimizer)
            self._note(f"resumed after {_place(self.state, sampler.steps)}")
        self._pace = Throughput(self._number, sampler.steps * config.epochs)

    @property
    def is_over(self) -> bool:
        """True after the last epoch, or once the score no longer rises."""
        return self.state.epoch >= self._config.epochs or _is_over(self.state, self._config)

    def run(self, stop: InterruptFlag) -> None:
        """Take the steps that are left of the epoch.

        Raises:
            KeyboardInterrupt: `stop` was asked for; the state is saved.
            UsageError: training diverged.
        """
        steps = self._sampler.steps
        for videos in self._sampler.videos(self.state.epoch)[self.state.step :]:
            losses = self._step(self._sampler.drawn(videos, self._number), self._number)
            self.state = self.state.stepped(losses, steps)
            self._pace.step(len(videos))
            stopped = self._ranks.any(stop.asked)
            if self._ranks.rank == 0 and (stopped or self._pace.should_save()):
                self._save()
            if stopped:
                self._note(_farewell(self.state, steps, self._config))
                raise KeyboardInterrupt
            if self.state.step < steps and self._pace.should_show():
                self._show({name: float(value) for name, value in losses.items()})
        _require_finite(self._model, self.state.epoch + 1, self._config)

    def end(self, result: ValidationResult, headline: Mapping[str, float]) -> None:
        """Record what validation measured after the epoch, and keep the weights if they are the best so far.

        Args:
            result: its score compares epochs.
            headline: figures of it for a progress line.
        """
        self.state = self.state.after(result, weights_of(self._model))
        self._show({**self.state.history[-1]["losses"], "score": result.score, **headline})
        _warn_if_idle(self.state, self._config, self._progress)

    @property
    def _number(self) -> int:
        """Steps that were taken."""
        return self.state.epoch * self._sampler.steps + self.state.step

    def _save(self) -> None:
        began = time.monotonic()
        arrays = tensors(self.state, self._model, self._step.optimizer)
        save_state(self._folder, self._identity, arrays, self.state.record())
        self._pace.saved(began)

    def _show(self, figures: Mapping[str, float]) -> None:
        values = {**figures, "rate": self._step.rate(max(0, self._number - 1)), **self._pace.values()}
        share = self.state.step / self._sampler.steps
        self._progress(Progress("train", self.state.epoch, self._config.epochs, "", "info", values, share))

    def _note(self, message: str) -> None:
        self._progress(Progress("train", self.state.epoch, self._config.epochs, message, "note"))

    def _warn(self, message: str) -> None:
        self._progress(Progress("train", message=message, level="warning"))


def _place(state: State, steps: int) -> str:
    """Where a run stands, in words."""
    inside = f"step {state.step} of {steps} in epoch {state.epoch + 1}"
    return inside if state.step else f"epoch {state.epoch}"


def _require_finite(model: AlignmentModel, epoch: int, config: TrainConfig) -> None:
    """Raise UsageError if training diverged: what no longer holds numbers can neither be measured nor used."""
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise UsageError(
            f"training diverged in epoch {epoch}: the weights are no longer numbers. Take a lower learning rate than "
            f"{config.learning_rate:g}; the run was not kept"
        )


def _farewell(state: State, steps: int, config: TrainConfig) -> str:
    return (
        f"stopped after {_place(state, steps)} ({config.epochs} epochs in all); its state is kept: the same command goes on "
        "from there, to the same result"
    )


def _warn_if_idle(state: State, config: TrainConfig, progress: ProgressCallback) -> None:
    if not any(value for name, value in state.history[-1]["losses"].items() if name != "pull"):
        progress(Progress("train", state.epoch, config.epochs, _NOTHING, "warning"))


def _is_over(state: State, config: TrainConfig) -> bool:
    # At a high rate scores may fall for some epochs before they rise: the first half is never the time to give up.
    return state.stale >= config.patience and state.epoch >= config.epochs / 2
