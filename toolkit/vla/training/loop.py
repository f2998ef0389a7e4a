"""The training loop.

Nothing random is carried from step to step: the order of videos is a function of seed and epoch, the choice of captions
and the dropout of seed and step. So a state holds weights, AdamW's moments and the history, and resuming is exact.
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
from vla.training.epochs import Epochs, Sampler
from vla.training.initialize import fit_centering, fit_temperature
from vla.training.interrupt import on_interrupt
from vla.training.model_setup import initial_model
from vla.training.objective import Objective
from vla.training.split import Split
from vla.training.state import State
from vla.training.step import Step, deterministic

ALPHAS = (0.125, 0.25, 0.5, 0.75, 1.0)
_HALFWAY = 0.5
"""Where epochs are compared. What few captions taught goes too far at 1: there, every epoch would look worse than none."""
_GALLERY = 400
"""Videos that were trained on and are searched beside those held out: among a few dozen everything is found."""
_FITTED = 4, 256
"""Batches that the first temperature is fitted to, and at most so many videos of each."""


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
    ranks: ProcessGroup | None = None,
    progress: ProgressCallback = silent,
) -> Run:
    """Train on `split.train`, choose by `split.held_out`, commit the run to `folder`; resumes at the step where it was left.

    Ctrl-C finishes the step, saves, says so by a note, and then raises KeyboardInterrupt. `ranks` share every step; the first
    of them alone judges and writes.

    A run that never beats the frozen encoder, whatever its alpha, is kept with alpha 1. Unless it wins plainly
    (`vla.evaluation.verdict`) it is marked as not better, so that it is reported and not used by default.
    """
    ranks = ranks or ProcessGroup(device)
    first = ranks.rank == 0
    judge, corpus = _Validator(corpus, split, config.seed), split.taught(corpus)
    model = initial_model(corpus.subset(split.train), scale, config).to(ranks.device)
    if config.levels == "none" and not any(True for head in model.heads.values() for _ in head.parameters()):
        raise UsageError(
            f"there is nothing to train: levels is none, and heads {config.heads!r} are none with weights of their own here"
        )
    objective = Objective(config).to(ranks.device)
    before = (judge(model), judge.untaught(model)) if first else (ValidationResult({}, 0.0), 0.0)
    sampler = Sampler(corpus, split.train, config)
    if config.projector != "identity":
        if first and before[0].search is not None:
            _initialize(model, objective, judge, sampler, ranks.device)
        ranks.broadcast_(model.projector.centring)
        ranks.broadcast_(model.log_scale.data)
    step = Step(model, objective, config, sampler.steps * config.epochs, ranks)
    epochs = Epochs(model, step, sampler, config, folder, identity, ranks, progress)
    with on_interrupt(patient=ranks.count > 1) as stop, deterministic(config.deterministic):
        while not epochs.is_over:
            epochs.run(stop)
            result = judge(model, _HALFWAY) if first else ValidationResult({}, 0.0)
            epochs.end(replace(result, score=ranks.told(result.score)), _headline(result))
    if first:
        _finish(model, epochs.state, before, judge, spec, config, folder, identity, split)
    ranks.wait()
    return open_run(folder)


def _initialize(
    model: AlignmentModel, objective: Objective, judge: _Validator, sampler: Sampler, device: torch.device
) -> None:
    """Centre both sides as far as that helps, and fit the temperature to the vectors as they then are.

    The encoder's own temperature fits its own vectors; once they are centred these are others.
    """
    if fit_centering(model, lambda m: judge(m, heads=False).search):
        count, most = _FITTED
        some = sampler.videos(0)[:count]
        fit_temperature(model, objective, (sampler.batch(rows[:most], i).to(device) for i, rows in enumerate(some)))


class _Validator:
    """Measures a model on the held-out videos and on the captions that were withheld, among `searched` videos."""

    def __init__(self, corpus: Corpus, split: Split, seed: int) -> None:
        others = np.random.default_rng([seed, 7]).permutation(split.train)[:_GALLERY]
        rows = np.concatenate([split.held_out, np.sort(others)])
        shown, hidden = set(rows.tolist()), set(split.withheld.tolist())
        self._corpus = corpus.subset(rows)
        self._judged = len(split.held_out)
        self._trained_on = corpus.subset(split.train)
        self._withheld = np.array([i in hidden for i, q in enumerate(corpus.queries) if q.video in shown], bool)
        held_out = np.array([q.video < self._judged for q in self._corpus.queries], bool)
        self._chosen_by = held_out | self._withheld
        self.searched = len(self._corpus.videos)

    def __call__(self, model: AlignmentModel, alpha: float = 1.0, *, heads: bool = True) -> ValidationResult:
        """The model with its dial at `alpha`; leaves it in evaluation mode. `heads` answer the same at every alpha."""
        model.eval()
        with model.at(alpha):
            return validate(model, self._corpus, self._judged, self._chosen_by, heads=heads)

    def untaught(self, model: AlignmentModel, alpha: float = 1.0) -> float:
        """How well content that nobody told the model of is found, from 0 to 1; 0 where nothing was withheld."""
        if not self._withheld.any():
            return 0.0
        with model.at(alpha):
            return validate(model, self._corpus, 0, self._withheld, heads=False).search or 0.0

    def verdict(self, ours: ValidationResult, frozen: ValidationResult) -> Verdict | None:
        """The two compared on the held-out videos alone: other videos were trained on, whatever was withheld of them."""
        parts = [{k: v.of(v.videos < self._judged) for k, v in found.parts.items()} for found in (ours, frozen)]
        return compare(*parts)

    def floors(self, model: AlignmentModel) -> dict[str, dict[str, float]]:
        """What not looking scores in the tasks of the heads."""
        return head_baselines(model, self._corpus, self._judged, self._trained_on)


def _finish(
    model: AlignmentModel, state: State, before: tuple[ValidationResult, float], judge: _Validator, spec: FeatureSpec,
    config: TrainConfig, folder: Path, identity: str, split: Split,
) -> None:  # fmt: skip
    """Choose alpha, and commit."""
    model.load_state_dict(state.best_weights)
    best = _chosen(model, judge, *before)
    after = judge(model, 1.0 if best is None else best)
    model.projector.alpha.fill_(1.0 if best is None else best)
    verdict = judge.verdict(after, before[0])
    record = {
        "config": config.to_json(),
        "epochs": state.epoch,
        "alpha": float(model.projector.alpha),
        "centring": float(model.projector.centring),
        "scale": float(model.scale.detach()),
        "better": best is not None and verdict is not None and verdict.is_better,
        "verdict": None if verdict is None else verdict.to_json(),
        "videos": {"train": len(split.train), "held out": len(split.held_out), "searched": judge.searched},
        "before": before[0].to_json(),
        "after": after.to_json(),
        "untaught": {"before": before[1], "after": judge.untaught(model, float(model.projector.alpha))},
        "floors": judge.floors(model),
        "history": state.history,
    }
    save_run(folder, model, spec, identity, record)


def _chosen(model: AlignmentModel, judge: _Validator, before: ValidationResult, least: float) -> float | None:
    """The alpha that does best on what was held out, of those that keep to `least` what was withheld; None if none does.

    This guards what the captions do not mention: it is found no worse than by the frozen encoder, and of what centring
    gained for it no more than half is given back.
    """
    if before.search is None:
        return None
    best, most = None, before.search
    for alpha in (0.0, *ALPHAS) if model.projector.centring > 0 else ALPHAS:
        found, untaught = judge(model, alpha, heads=False).search or 0.0, judge.untaught(model, alpha)
        if alpha == 0:
            least = max(least, (least + untaught) / 2)
        # The heads have no part in this: they see the projector as it was trained.
        if found > most and untaught >= least:
            best, most = alpha, found
    return best


def _headline(result: ValidationResult) -> dict[str, float]:
    """The one figure of each task that a progress line has room for."""
    chosen = {"text to video": "R@1", "moment to video": "R@1", "moment in its video": "R1@0.5"}
    return {f"{task} {m}": result.metrics[task][m] for task, m in chosen.items() if task in result.metrics}
