"""The training loop.

Nothing random is carried from step to step: the order of videos is a function of seed and epoch, the choice of captions
and the dropout of seed and step. So a state holds weights, AdamW's moments and the history, and resuming is exact.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.batch import AlignmentBatch
from vla.corpus import Corpus
from vla.evaluate.heads import answer, floor
from vla.evaluate.run import Evaluation, evaluate
from vla.features import FeatureSpec
from vla.heads import registry as heads
from vla.model import AlignmentModel, ModelConfig, weights_of
from vla.progress import Progress, ProgressCallback, silent
from vla.train.begin import centre, warm
from vla.train.checkpoint import Run, load_state, save_run, save_state
from vla.train.config import HEADS_BY_QUESTION, TrainConfig
from vla.train.draw import by_video, draw
from vla.train.objective import Objective
from vla.train.order import batches, neighbours
from vla.train.split import Split
from vla.train.state import State, restored, tensors

ALPHAS = (0.125, 0.25, 0.5, 0.75, 1.0)
_HALFWAY = 0.5
"""Where epochs are compared. What few captions taught goes too far at 1: there, every epoch would look worse than none."""
_GALLERY = 400
"""Videos that were trained on and are searched beside those held out: among a few dozen everything is found."""
_ENOUGH = 50_000
_SAVE_SECONDS = 5.0
_FITTED = 4
"""Batches that the first temperature is fitted to."""


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
    progress: ProgressCallback = silent,
) -> Run:
    """Train on `split.train`, choose by `split.held_out`, commit the run to `folder`; resumes where it was left.

    Whatever is chosen, alpha 0 is the frozen encoder: a run that never beats it is kept with alpha 1 and marked as not
    better, so that it is reported and not used by default.
    """
    device = device or torch.device("cpu")
    judge, corpus = _Judge(corpus, split, config.seed), split.taught(corpus)
    model = _initial_model(corpus.subset(split.train), scale, config)
    model = model.to(device)
    objective = Objective(config).to(device)
    optimizer = _optimizer(model, config)
    before = judge(model), judge.untaught(model)
    told = by_video(corpus)
    near = neighbours(corpus, split.train, config.seed)
    if config.projector != "identity" and centre(model, lambda m: judge(m).search):
        # The encoder's own temperature fits its own vectors; these are others now.
        first = batches(split.train, near, config.batch_videos, config.look_alikes, config.seed, 0)[:_FITTED]
        warm(model, objective, (draw(corpus, told, rows, config, i).to(device) for i, rows in enumerate(first)))
    steps = math.ceil(len(split.train) / config.batch_videos)
    state = State(0, -math.inf, 0, [], weights_of(model))
    kept = load_state(folder, identity)
    if kept is not None:
        state = restored(kept, model, optimizer)
        progress(Progress("train", state.epoch, config.epochs, f"resumed after epoch {state.epoch}", "note"))
    saved = time.monotonic()
    while state.epoch < config.epochs and not _is_over(state, config):
        sums: dict[str, float] = {}
        for step, rows in enumerate(
            batches(split.train, near, config.batch_videos, config.look_alikes, config.seed, state.epoch)
        ):
            number = state.epoch * steps + step
            _set_rate(optimizer, config, number, steps * config.epochs)
            batch = draw(corpus, told, rows, config, number).to(device)
            parts = _step(model, objective, optimizer, batch, config.seed + number)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value / steps
        result = judge(model, _HALFWAY)
        state = state.after(result, sums, weights_of(model))
        values = {**sums, "score": result.score, "rate": optimizer.param_groups[0]["lr"]}
        progress(Progress("train", state.epoch, config.epochs, "", "info", {**values, **_headline(result)}))
        if time.monotonic() - saved > _SAVE_SECONDS:
            save_state(folder, identity, tensors(state, model, optimizer), state.record())
            saved = time.monotonic()
    return _finish(model, state, before, judge, spec, config, folder, identity, split)


class _Judge:
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

    def __call__(self, model: AlignmentModel, alpha: float = 1.0) -> Evaluation:
        """The model with its dial at `alpha`; leaves it in evaluation mode."""
        model.eval()
        with model.at(alpha):
            return evaluate(model, self._corpus, self._judged, self._chosen_by)

    def untaught(self, model: AlignmentModel, alpha: float = 1.0) -> float:
        """How well content that nobody told the model of is found, from 0 to 1; 0 where nothing was withheld."""
        if not self._withheld.any():
            return 0.0
        with model.at(alpha):
            return evaluate(model, self._corpus, 0, self._withheld).search or 0.0

    def floors(self, model: AlignmentModel) -> dict[str, dict[str, float]]:
        """What not looking scores in the tasks of the heads."""
        said = answer(model, self._corpus, self._judged)
        return {task: floor(answers, self._trained_on) for task, answers in said.items()}


def _is_over(state: State, config: TrainConfig) -> bool:
    # At a high rate scores may fall for some epochs before they rise: the first half is never the time to give up.
    return state.stale >= config.patience and state.epoch >= config.epochs / 2


def _finish(
    model: AlignmentModel, state: State, before: tuple[Evaluation, float], judge: _Judge, spec: FeatureSpec,
    config: TrainConfig, folder: Path, identity: str, split: Split,
) -> Run:  # fmt: skip
    """Choose alpha, and commit."""
    model.load_state_dict(state.best_weights)
    best, after = _chosen(model, judge, *before)
    if best is None:
        after = judge(model, 1.0)
    model.projector.alpha.fill_(1.0 if best is None else best)
    record = {
        "config": config.to_json(),
        "epochs": state.epoch,
        "alpha": float(model.projector.alpha),
        "centring": float(model.projector.centring),
        "scale": float(model.scale.detach()),
        "better": best is not None,
        "videos": {"train": len(split.train), "held out": len(split.held_out), "searched": judge.searched},
        "before": before[0].to_json(),
        "after": after.to_json(),
        "untaught": {"before": before[1], "after": judge.untaught(model, float(model.projector.alpha))},
        "floors": judge.floors(model),
        "history": state.history,
    }
    return save_run(folder, model, spec, identity, record)


def _chosen(model: AlignmentModel, judge: _Judge, before: Evaluation, least: float) -> tuple[float | None, Evaluation]:
    """The alpha that does best on what was held out, of those that keep to `least` what was withheld; None if none does.

    This guards what the captions do not mention: it is found no worse than by the frozen encoder, and of what centring
    gained for it no more than half is given back.
    """
    best, after = None, before
    for alpha in (0.0, *ALPHAS) if model.projector.centring > 0 else ALPHAS:
        result, untaught = judge(model, alpha), judge.untaught(model, alpha)
        if alpha == 0:
            least = max(least, (least + untaught) / 2)
        # The heads have no part in this: they see the projector as it was trained.
        if result.search is not None and result.search > (after.search or 0.0) and untaught >= least:
            best, after = alpha, result
    return best, after


def _usual(corpus: Corpus, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw frames and texts of `corpus`, no more than are needed to know what is usual among them."""
    frames = np.concatenate([v.values for v in corpus.videos])
    if len(frames) > _ENOUGH:
        frames = frames[np.sort(np.random.default_rng([seed, 6]).permutation(len(frames))[:_ENOUGH])]
    told = [*(q.parts for q in corpus.queries), *(q.parts for q in corpus.questions)][:_ENOUGH]
    texts = np.stack([corpus.vector(parts) for parts in told])
    return torch.from_numpy(frames.astype(np.float32)), torch.from_numpy(texts)


def _initial_model(corpus: Corpus, scale: float, config: TrainConfig) -> AlignmentModel:
    """The frozen encoder with what it needs to become another, from `corpus`, which is trained on."""
    heads = {name: _planned(name, corpus, config) for name in chosen_heads(config, corpus)}
    sizes = ModelConfig(corpus.dim, config.projector, dict(config.projector_options), min(scale, 100.0), heads)
    # The caller's random state is given back, here and in every step: a library must not reseed its user's program.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AlignmentModel(sizes)
    model.projector.fit(*_usual(corpus, config.seed))
    for head in (*model.heads.values(), *model.blind.values()):
        head.fit(corpus)
    return model


def chosen_heads(config: TrainConfig, corpus: Corpus) -> list[str]:
    """The heads to train: those named, or one for each kind of question that is asked."""
    if config.heads != "auto":
        return config.head_names
    kinds = {q.question.kind for q in corpus.questions}
    return [head for kind, head in HEADS_BY_QUESTION.items() if kind in kinds]


def _planned(name: str, corpus: Corpus, config: TrainConfig) -> dict[str, Any]:
    options: dict[str, Any] = heads.get(name).planned(corpus, config.head_options.get(name, {}))
    return options


def _step(
    model: AlignmentModel, objective: Objective, optimizer: torch.optim.Optimizer, batch: AlignmentBatch, seed: int
) -> dict[str, float]:
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = objective(model, batch)
    if not parts:
        return {}
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(parts.values())).sum().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {k: float(v.detach()) for k, v in parts.items()}


def _optimizer(model: AlignmentModel, config: TrainConfig) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, betas=(0.9, 0.98))


def _set_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, total: int) -> None:
    warm = max(1, round(config.warmup * total))
    done = (step - warm) / max(1, total - warm)
    share = (step + 1) / warm if step < warm else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * share


def _headline(result: Evaluation) -> dict[str, float]:
    """The one figure of each task that a progress line has room for."""
    chosen = {"text to video": "R@1", "moment to video": "R@1", "moment in its video": "R1@0.5"}
    return {f"{task} {m}": result.metrics[task][m] for task, m in chosen.items() if task in result.metrics}
