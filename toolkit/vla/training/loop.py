"""The training loop.

No random state is carried from step to step: the order of videos is a function of seed and epoch,
the choice of captions and the dropout of seed and step. So a state holds weights, AdamW's moments
and the history, and resuming is exact.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vla.batches.corpus import Corpus
from vla.errors import UsageError
from vla.evaluation.validation import ValidationResult, head_baselines, validate
from vla.evaluation.verdict import Verdict, compare
from vla.features import FeatureSpec
from vla.model import AlignmentModel
from vla.progress import ProgressCallback, silent
from vla.threads import small_op_threads
from vla.training.checkpoint import Run, open_run, save_run
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.epochs import Epochs, EpochSampler
from vla.training.initialize import fit_centering, fit_temperature
from vla.training.interrupt import on_interrupt
from vla.training.model_setup import initial_model
from vla.training.objective import Objective
from vla.training.split import Split
from vla.training.state import State
from vla.training.step import Step, deterministic

ALPHAS = (0.125, 0.25, 0.5, 0.75, 1.0)
_VALIDATION_ALPHA = 0.5
"""Alpha at which epochs are compared. At 1 every epoch could look worse than none after few
captions.
"""
_MAX_DISTRACTORS = 400
"""Training videos searched beside the validation videos: among a few dozen everything is retrieved.
"""
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

    A run that never beats the frozen encoder, at any alpha, is kept with alpha 1. Unless it is
    significantly better (`vla.evaluation.verdict`) it is marked as not better: it is reported, and
    not used by default.
    """
    processes = processes or ProcessGroup(device)
    is_main = processes.rank == 0
    validator, corpus = _Validator(corpus, split, config.seed), split.training_corpus(corpus)
    model = initial_model(corpus.subset(split.train), scale, config).to(processes.device)
    if config.levels == "none" and not any(
        True for head in model.heads.values() for _ in head.parameters()
    ):
        raise UsageError(
            f"there is nothing to train: levels is none, and no head of heads {config.heads!r} "
            f"has weights of its own"
        )
    objective = Objective(config).to(processes.device)
    before = ValidationResult({}, 0.0), 0.0
    if is_main:
        before = validator(model), validator.held_out_score(model)
    sampler = EpochSampler(corpus, split.train, config)
    if config.projector != "identity":
        if is_main and before[0].search is not None:
            _initialize(model, objective, validator, sampler, processes.device)
        processes.broadcast_(model.projector.centring)
        processes.broadcast_(model.log_scale.data)
    step = Step(model, objective, config, sampler.steps * config.epochs, processes)
    epochs = Epochs(model, step, sampler, config, folder, identity, processes, progress)
    with (
        on_interrupt(allow_repeats=processes.world_size > 1) as interrupt,
        deterministic(config.deterministic),
    ):
        while not epochs.is_over:
            epochs.run(interrupt)
            result = validator(model, _VALIDATION_ALPHA) if is_main else ValidationResult({}, 0.0)
            epochs.end(replace(result, score=processes.broadcast(result.score)), _headline(result))
    if is_main:
        _finish(model, epochs.state, before, validator, spec, config, folder, identity, split)
    processes.barrier()
    return open_run(folder)


def _initialize(
    model: AlignmentModel,
    objective: Objective,
    validator: _Validator,
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


class _Validator:
    """Scores of a model on the validation videos and the held-out captions.

    Attributes:
        gallery_size: number of videos that are searched: validation videos and distractors.
    """

    def __init__(self, corpus: Corpus, split: Split, seed: int) -> None:
        others = np.random.default_rng([seed, 7]).permutation(split.train)[:_MAX_DISTRACTORS]
        rows = np.concatenate([split.val, np.sort(others)])
        gallery, held_out = set(rows.tolist()), set(split.held_out_queries.tolist())
        self._corpus = corpus.subset(rows)
        self._num_val = len(split.val)
        self._train_corpus = corpus.subset(split.train)
        self._is_held_out = np.array(
            [i in held_out for i, q in enumerate(corpus.queries) if q.video in gallery], bool
        )
        of_val = np.array([q.video < self._num_val for q in self._corpus.queries], bool)
        self._is_selection_query = of_val | self._is_held_out
        self.gallery_size = len(self._corpus.videos)

    def __call__(
        self, model: AlignmentModel, alpha: float = 1.0, *, heads: bool = True
    ) -> ValidationResult:
        """Return the scores of the model at `alpha`; leaves it in evaluation mode.

        Args:
            model: its projector's alpha is restored afterwards.
            alpha: in [0, 1].
            heads: also score the heads, whose predictions do not depend on alpha.
        """
        model.eval()
        with model.with_alpha(alpha):
            return validate(
                model, self._corpus, self._num_val, self._is_selection_query, heads=heads
            )

    def held_out_score(self, model: AlignmentModel, alpha: float = 1.0) -> float:
        """Return the retrieval score of held-out concepts, from 0 to 1.

        0 where none are held out.
        """
        if not self._is_held_out.any():
            return 0.0
        with model.with_alpha(alpha):
            return validate(model, self._corpus, 0, self._is_held_out, heads=False).search or 0.0

    def verdict(self, ours: ValidationResult, frozen: ValidationResult) -> Verdict | None:
        """Return the comparison of two models on the validation videos alone.

        The other videos were trained on, whether or not some of their captions are held out.
        """
        parts = [
            {k: v.select(v.videos < self._num_val) for k, v in result.parts.items()}
            for result in (ours, frozen)
        ]
        return compare(*parts)

    def baselines(self, model: AlignmentModel) -> dict[str, dict[str, float]]:
        """Return the scores of the vision-blind baselines in the tasks of the heads."""
        return head_baselines(model, self._corpus, self._num_val, self._train_corpus)


def _finish(
    model: AlignmentModel, state: State, before: tuple[ValidationResult, float], validator: _Validator, spec: FeatureSpec,
    config: TrainConfig, folder: Path, identity: str, split: Split,
) -> None:  # fmt: skip
    """Select alpha for the best weights, and commit the run."""
    model.load_state_dict(state.best_weights)
    best = _select_alpha(model, validator, *before)
    after = validator(model, 1.0 if best is None else best)
    model.projector.alpha.fill_(1.0 if best is None else best)
    verdict = validator.verdict(after, before[0])
    record = {
        "config": config.to_json(),
        "epochs": state.epoch,
        "alpha": float(model.projector.alpha),
        "centring": float(model.projector.centring),
        "scale": float(model.scale.detach()),
        "better": best is not None and verdict is not None and verdict.is_better,
        "verdict": None if verdict is None else verdict.to_json(),
        "videos": {
            "train": len(split.train),
            "held out": len(split.val),
            "searched": validator.gallery_size,
        },
        "before": before[0].to_json(),
        "after": after.to_json(),
        "untaught": {
            "before": before[1],
            "after": validator.held_out_score(model, float(model.projector.alpha)),
        },
        "floors": validator.baselines(model),
        "history": state.history,
    }
    save_run(folder, model, spec, identity, record)


def _select_alpha(
    model: AlignmentModel, validator: _Validator, before: ValidationResult, min_held_out: float
) -> float | None:
    """Return the alpha of the best validation score.

    None if none is better than the frozen encoder.

    An alpha is admissible if held-out concepts score at least `min_held_out`, the score of the
    frozen encoder. At most half of the gain of centering on them may be lost.
    """
    if before.search is None:
        return None
    best, best_score = None, before.search
    for alpha in (0.0, *ALPHAS) if model.projector.centring > 0 else ALPHAS:
        score = validator(model, alpha, heads=False).search or 0.0
        held_out = validator.held_out_score(model, alpha)
        if alpha == 0:
            min_held_out = max(min_held_out, (min_held_out + held_out) / 2)
        # Heads have no part in this: they see the projector at alpha 1.
        if score > best_score and held_out >= min_held_out:
            best, best_score = alpha, score
    return best


def _headline(result: ValidationResult) -> dict[str, float]:
    """Return one metric of each task for the progress line."""
    metrics = {"text to video": "R@1", "moment to video": "R@1", "moment in its video": "R1@0.5"}
    return {
        f"{task} {m}": result.metrics[task][m]
        for task, m in metrics.items()
        if task in result.metrics
    }
