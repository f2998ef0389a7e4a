"""The training loop.

No random state is carried from step to step: the order of videos is a function of seed and epoch,
the choice of captions and the dropout of seed and step. So a state holds weights, AdamW's moments
and the history, and resuming is exact.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vla.batches.corpus import Corpus
from vla.errors import UsageError
from vla.evaluation.validation import ValidationResult
from vla.features import FeatureSpec
from vla.model import AlignmentModel, cpu_state_dict
from vla.progress import ProgressCallback, silent
from vla.threads import small_op_threads
from vla.training.checkpoint import Run, open_run, save_run
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.epochs import Epochs, EpochSampler
from vla.training.gates import select_alpha, select_head_gate, validate_epoch
from vla.training.initialize import fit_centering, fit_temperature
from vla.training.interrupt import on_interrupt
from vla.training.model_setup import initial_model
from vla.training.objective import Objective
from vla.training.schedule import Schedule
from vla.training.split import Split
from vla.training.state import State
from vla.training.step import Step, deterministic
from vla.training.validator import Validator

_FIT_BATCHES = 4
"""Batches that the initial temperature is fitted to."""
_FIT_BATCH_SIZE = 256
"""Maximum number of videos in each of them."""


@small_op_threads()
def train(
    corpus: Corpus,
    split: Split,
    spec: FeatureSpec,
    scale: float,
    config: TrainConfig,
    folder: Path,
    identity: str,
    *,
    device: torch.device | None = None,
    processes: ProcessGroup | None = None,
    progress: ProgressCallback = silent,
) -> Run:
    """Train on `split.train`, select on `split.val` and commit the run to `folder`.

    An interrupted run resumes at its step. Ctrl-C finishes the step, saves the state, sends a note
    and then raises KeyboardInterrupt. `processes` share every step; the first of them alone
    validates and writes.

    The initial model is the first candidate of the selection; then vectors and heads get the alpha
    at which they score best on validation videos and held-out concepts, 0 where none scores better
    than the frozen encoder. A run that is not significantly better than that
    (`vla.evaluation.verdict`) is reported, and not used by default.
    """
    processes = processes or ProcessGroup(device)
    is_main = processes.rank == 0
    validator = Validator(corpus, split, config.select, config.seed)
    corpus = split.training_corpus(corpus)
    model = initial_model(corpus.subset(split.train), scale, config).to(processes.device)
    if config.levels == "none" and not any(
        True for head in model.heads.values() for _ in head.parameters()
    ):
        raise UsageError(
            f"there is nothing to train: levels is none, and no head of heads {config.heads!r} "
            f"has weights of its own"
        )
    objective = Objective(config).to(processes.device)
    before = start = ValidationResult({}, 0.0)
    if is_main:
        before = start = validator(model)
    sampler = EpochSampler(corpus, split.train, config)
    if config.projector != "identity":
        if is_main and before.search is not None:
            _initialize(model, objective, validator, sampler, processes.device)
            start = validator(model)
        processes.broadcast_(model.projector.centring)
        processes.broadcast_(model.log_scale.data)
    # Copies: on a CPU the state shares memory with the model.
    initial = {k: v.clone() for k, v in cpu_state_dict(model).items()}
    schedule = Schedule.of(config, corpus, split.train, validator.gallery, validator.num_queries)
    step = Step(model, objective, config, sampler.steps * schedule.epochs, processes)
    epochs = Epochs(
        model, step, sampler, schedule, start, config, folder, identity, processes, progress
    )
    with (
        on_interrupt(allow_repeats=processes.world_size > 1) as interrupt,
        deterministic(config.deterministic),
    ):
        while not epochs.is_over:
            epochs.run(interrupt)
            if epochs.end():
                result = validate_epoch(model, initial, validator) if is_main else start
                epochs.record(result, _headline(result))
    if is_main:
        _finish(
            model, initial, epochs.state, before, validator, spec, config, folder, identity, split
        )
    processes.barrier()
    return open_run(folder)


def _initialize(
    model: AlignmentModel,
    objective: Objective,
    validator: Validator,
    sampler: EpochSampler,
    device: torch.device,
) -> None:
    """Fit the centering of both modalities, then the temperature of the contrastive loss.

    The encoder's own temperature fits its own vectors; centering changes them.
    """
    if fit_centering(model, lambda m: validator(m, heads=False).search):
        batches = sampler.videos(0)[:_FIT_BATCHES]
        fit_temperature(
            model,
            objective,
            (sampler.batch(rows[:_FIT_BATCH_SIZE], i).to(device) for i, rows in enumerate(batches)),
        )


def _finish(
    model: AlignmentModel, initial: dict[str, torch.Tensor], state: State, before: ValidationResult,
    validator: Validator, spec: FeatureSpec, config: TrainConfig, folder: Path, identity: str, split: Split,
) -> None:  # fmt: skip
    """Select the alphas for the selected weights, and commit the run."""
    model.load_state_dict(state.selected_weights)
    best = select_alpha(model, validator, before)
    alpha = best or 0.0
    if best is None and before.search is not None:
        # Nothing learned is used: the run is the frozen encoder.
        model.projector.centring.fill_(0.0)
    elif best is None:
        alpha = 1.0
    gate = select_head_gate(model, initial, validator, alpha)
    after = validator(model, alpha)
    model.projector.alpha.fill_(alpha)
    verdict = validator.verdict(after.listed_parts, before.listed_parts)
    by_head = {
        task: validator.verdict({task: values}, before.head_parts)
        for task, values in after.head_parts.items()
        if task in before.head_parts
    }
    record = {
        "config": config.to_json(),
        "epochs": state.epoch,
        "selected_epoch": state.selected_epoch,
        "alpha": float(model.projector.alpha),
        "centring": float(model.projector.centring),
        "scale": float(model.scale.detach()),
        "better": best is not None and verdict is not None and verdict.is_better,
        "verdict": None if verdict is None else verdict.to_json(),
        "heads": {task: v.to_json() for task, v in by_head.items() if v is not None},
        "head_gate": None if gate is None else gate.to_json(),
        "videos": {
            "train": len(split.train),
            "held out": validator.num_videos,
            "searched": len(validator.gallery),
        },
        "before": before.to_json(),
        "after": after.to_json(),
        "untaught": {
            "before": validator.held_out_score(before),
            "after": validator.held_out_score(after),
        },
        "floors": validator.baselines(model),
        "history": state.history,
    }
    save_run(folder, model, spec, identity, record)


def _headline(result: ValidationResult) -> dict[str, float]:
    """Return one metric of each task for the progress line."""
    metrics = {"text to video": "R@1", "moment to video": "R@1", "moment in its video": "R1@0.5"}
    return {
        f"{task} {m}": result.metrics[task][m]
        for task, m in metrics.items()
        if task in result.metrics
    }
