"""The training loop.

Nothing random is carried from step to step: the order of videos is a function of seed and epoch, the choice of captions
and the dropout of seed and step. So a state holds weights, AdamW's moments and the history, and resuming is exact.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.batch import AlignmentBatch
from vla.corpus import Corpus
from vla.errors import MissingError
from vla.evaluate.heads import answer, floor
from vla.evaluate.run import Evaluation, evaluate
from vla.features import FeatureSpec
from vla.heads import registry as heads
from vla.model import AlignmentModel, ModelConfig, weights_of
from vla.progress import Progress, ProgressCallback, silent
from vla.train.checkpoint import Run, load_state, save_run, save_state
from vla.train.config import HEADS_BY_QUESTION, TrainConfig
from vla.train.draw import by_video, draw
from vla.train.objective import Objective
from vla.train.order import batches, neighbours
from vla.train.state import State, restored, tensors

ALPHAS = (0.125, 0.25, 0.5, 0.75, 1.0)
_HALFWAY = 0.5
"""Where epochs are compared. What few captions taught goes too far at 1: there, every epoch would look worse than none."""
_GALLERY = 400
"""Videos that were trained on and are searched beside those held out: among a few dozen everything is found."""
_ENOUGH = 50_000
_SAVE_SECONDS = 5.0


@dataclass(frozen=True)
class Split:
    """Rows of a corpus: what is trained on, and what is held out to choose by. Never the same video in both."""

    train: np.ndarray
    held_out: np.ndarray


def split_rows(count: int, named: dict[int, str], held_out: float, seed: int) -> Split:
    """Rows to train on and to hold out, by video.

    Where captions name splits (`named`), rows of those that begin with `val` or `dev` are held out (`validation`, `val_1`),
    rows of those that begin with `test` are left alone, the rest is trained on. Otherwise a random share is held out.

    Raises:
        MissingError: there are too few videos to hold any out, or to train on the others.
    """
    kinds = [named.get(i, "").lower() for i in range(count)]
    val = np.array([kind.startswith(("val", "dev")) for kind in kinds], bool)
    train = ~val & np.array([not kind.startswith("test") for kind in kinds], bool)
    if not val.any():
        rows = np.flatnonzero(train)
        order = np.random.default_rng([seed, 1]).permutation(rows)
        val[order[: max(1, round(len(rows) * held_out))]] = True
        train &= ~val
    split = Split(np.flatnonzero(train), np.flatnonzero(val))
    if len(split.train) < 2 or len(split.held_out) < 1:
        raise MissingError(
            f"{len(split.train)} videos to train on and {len(split.held_out)} to hold out are too few: "
            "captions of at least 3 videos are needed, and hundreds to learn from"
        )
    return split


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
    model = _initial_model(corpus.subset(split.train), scale, config)
    model = model.to(device)
    objective = Objective(config).to(device)
    optimizer = _optimizer(model, config)
    judge = _Judge(corpus, split, config.seed)
    before = judge(model)
    steps = math.ceil(len(split.train) / config.batch_videos)
    state = State(0, -math.inf, 0, [], weights_of(model))
    kept = load_state(folder, identity)
    if kept is not None:
        state = restored(kept, model, optimizer)
        progress(Progress("train", state.epoch, config.epochs, f"resumed after epoch {state.epoch}", "note"))
    told = by_video(corpus)
    near = neighbours(corpus, split.train, config.seed)
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
    """Measures a model on the held-out videos, searched for among `searched` videos."""

    def __init__(self, corpus: Corpus, split: Split, seed: int) -> None:
        others = np.random.default_rng([seed, 7]).permutation(split.train)[:_GALLERY]
        self._corpus = corpus.subset(np.concatenate([split.held_out, np.sort(others)]))
        self._judged = len(split.held_out)
        self._trained_on = corpus.subset(split.train)
        self.searched = len(self._corpus.videos)

    def __call__(self, model: AlignmentModel, alpha: float = 1.0) -> Evaluation:
        """The model with its dial at `alpha`; leaves it in evaluation mode."""
        model.eval()
        with model.at(alpha):
            return evaluate(model, self._corpus, self._judged)

    def floors(self, model: AlignmentModel) -> dict[str, dict[str, float]]:
        """What not looking scores in the tasks of the heads."""
        said = answer(model, self._corpus, self._judged)
        return {task: floor(answers, self._trained_on) for task, answers in said.items()}


def _is_over(state: State, config: TrainConfig) -> bool:
    # At a high rate scores may fall for some epochs before they rise: the first half is never the time to give up.
    return state.stale >= config.patience and state.epoch >= config.epochs / 2


def _finish(
    model: AlignmentModel, state: State, before: Evaluation, judge: _Judge, spec: FeatureSpec,
    config: TrainConfig, folder: Path, identity: str, split: Split,
) -> Run:  # fmt: skip
    """Choose alpha on the held-out videos and commit."""
    model.load_state_dict(state.best_weights)
    best, after = None, before
    for alpha in ALPHAS:
        result = judge(model, alpha)
        # The heads have no part in this: they see the projector as it was trained.
        if result.search is not None and result.search > (after.search or 0.0):
            best, after = alpha, result
    if best is None:
        after = judge(model, 1.0)
    model.projector.alpha.fill_(1.0 if best is None else best)
    record = {
        "config": config.to_json(),
        "epochs": state.epoch,
        "alpha": float(model.projector.alpha),
        "better": best is not None,
        "videos": {"train": len(split.train), "held out": len(split.held_out), "searched": judge.searched},
        "before": before.to_json(),
        "after": after.to_json(),
        "floors": judge.floors(model),
        "history": state.history,
    }
    return save_run(folder, model, spec, identity, record)


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
