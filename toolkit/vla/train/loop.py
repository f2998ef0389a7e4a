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

from vla.batch import AlignmentBatch, Corpus, Query, collate
from vla.errors import MissingError
from vla.evaluate.run import Evaluation, evaluate
from vla.features import FeatureSpec
from vla.model import AlignmentModel, ModelConfig, weights_of
from vla.progress import Progress, ProgressCallback, silent
from vla.train.checkpoint import Run, load_state, save_run, save_state
from vla.train.config import TrainConfig
from vla.train.objective import Objective
from vla.train.order import batches, neighbours

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
    model = _initial_model(corpus.dim, scale, config)
    model.projector.fit(*_usual(corpus.subset(split.train), config.seed))
    model = model.to(device)
    objective = Objective(config).to(device)
    optimizer = _optimizer(model, config)
    judge = _Judge(corpus, split, config.seed)
    before = judge(model)
    steps = math.ceil(len(split.train) / config.batch_videos)
    state = _State(0, -math.inf, 0, [], weights_of(model))
    restored = load_state(folder, identity)
    if restored is not None:
        state = _restore(restored, model, optimizer)
        progress(Progress("train", state.epoch, config.epochs, f"resumed after epoch {state.epoch}", "note"))
    captions = _by_video(corpus)
    near = neighbours(corpus, split.train, config.seed)
    saved = time.monotonic()
    while state.epoch < config.epochs and not _is_over(state, config):
        sums: dict[str, float] = {}
        for step, rows in enumerate(
            batches(split.train, near, config.batch_videos, config.look_alikes, config.seed, state.epoch)
        ):
            number = state.epoch * steps + step
            _set_rate(optimizer, config, number, steps * config.epochs)
            batch = _batch(corpus, captions, rows, config, number).to(device)
            parts = _step(model, objective, optimizer, batch, config.seed + number)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value / steps
        result = judge(model, _HALFWAY)
        state = state.after(result, sums, weights_of(model))
        values = {**sums, "score": result.score, "rate": optimizer.param_groups[0]["lr"]}
        progress(Progress("train", state.epoch, config.epochs, "", "info", {**values, **_headline(result)}))
        if time.monotonic() - saved > _SAVE_SECONDS:
            save_state(folder, identity, _tensors(state, model, optimizer), state.record())
            saved = time.monotonic()
    return _finish(model, state, before, judge, spec, config, folder, identity, split)


class _Judge:
    """Measures a model on the held-out videos, searched for among `searched` videos."""

    def __init__(self, corpus: Corpus, split: Split, seed: int) -> None:
        others = np.random.default_rng([seed, 7]).permutation(split.train)[:_GALLERY]
        self._corpus = corpus.subset(np.concatenate([split.held_out, np.sort(others)]))
        self._judged = len(split.held_out)
        self.searched = len(self._corpus.videos)

    def __call__(self, model: AlignmentModel, alpha: float = 1.0) -> Evaluation:
        """The model with its dial at `alpha`; leaves it in evaluation mode and the dial at 1."""
        model.eval().projector.alpha.fill_(alpha)
        result = evaluate(model, self._corpus, self._judged)
        model.projector.alpha.fill_(1.0)
        return result


@dataclass(frozen=True)
class _State:
    """Where a run stands after `epoch` epochs."""

    epoch: int
    best: float
    stale: int
    history: list[dict[str, Any]]
    best_weights: dict[str, torch.Tensor]

    def after(self, result: Evaluation, losses: dict[str, float], weights: dict[str, torch.Tensor]) -> _State:
        improved = result.score > self.best
        row = {"epoch": self.epoch + 1, "losses": losses, **result.to_json()}
        copy = {k: v.clone() for k, v in weights.items()} if improved else self.best_weights
        best = max(self.best, result.score)
        return _State(self.epoch + 1, best, 0 if improved else self.stale + 1, [*self.history, row], copy)

    def record(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "best": self.best, "stale": self.stale, "history": self.history}


def _is_over(state: _State, config: TrainConfig) -> bool:
    # At a high rate scores may fall for some epochs before they rise: the first half is never the time to give up.
    return state.stale >= config.patience and state.epoch >= config.epochs / 2


def _finish(
    model: AlignmentModel, state: _State, before: Evaluation, judge: _Judge, spec: FeatureSpec,
    config: TrainConfig, folder: Path, identity: str, split: Split,
) -> Run:  # fmt: skip
    """Choose alpha on the held-out videos and commit."""
    model.load_state_dict(state.best_weights)
    best, after = None, before
    for alpha in ALPHAS:
        result = judge(model, alpha)
        if result.score > after.score:
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
        "history": state.history,
    }
    return save_run(folder, model, spec, identity, record)


def _usual(corpus: Corpus, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw frames and texts of `corpus`, no more than are needed to know what is usual among them."""
    frames = np.concatenate([v.values for v in corpus.videos])
    if len(frames) > _ENOUGH:
        frames = frames[np.sort(np.random.default_rng([seed, 6]).permutation(len(frames))[:_ENOUGH])]
    texts = np.stack([corpus.text_vector(q) for q in corpus.queries][:_ENOUGH])
    return torch.from_numpy(frames.astype(np.float32)), torch.from_numpy(texts)


def _initial_model(dim: int, scale: float, config: TrainConfig) -> AlignmentModel:
    # The caller's random state is given back, here and in every step: a library must not reseed its user's program.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return AlignmentModel(ModelConfig(dim, config.projector, dict(config.projector_options), min(scale, 100.0)))


def _step(
    model: AlignmentModel, objective: Objective, optimizer: torch.optim.Optimizer, batch: AlignmentBatch, seed: int
) -> dict[str, float]:
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = objective(model(batch), batch)
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


def _by_video(corpus: Corpus) -> dict[int, tuple[list[Query], list[Query]]]:
    """Untimed and timed captions of each video."""
    found: dict[int, tuple[list[Query], list[Query]]] = {}
    for query in corpus.queries:
        found.setdefault(query.video, ([], []))[query.is_timed].append(query)
    return found


def _batch(
    corpus: Corpus,
    captions: dict[int, tuple[list[Query], list[Query]]],
    rows: np.ndarray,
    config: TrainConfig,
    step: int,
) -> AlignmentBatch:
    """The videos `rows` with up to `captions_per_video` untimed and as many timed captions of each."""
    rng = np.random.default_rng([config.seed, 3, step])
    queries: list[Query] = []
    for row in rows:
        for some in captions.get(int(row), ([], [])):
            chosen = rng.permutation(len(some))[: config.captions_per_video]
            queries += [some[i] for i in sorted(chosen)]
    # Untimed first or timed first makes no difference to any loss; a fixed order makes the bits repeatable.
    return collate(corpus, rows, queries)


def _headline(result: Evaluation) -> dict[str, float]:
    """The one figure of each task that a progress line has room for."""
    chosen = {"text to video": "R@1", "moment to video": "R@1", "moment in its video": "R1@0.5"}
    return {f"{task} {m}": result.metrics[task][m] for task, m in chosen.items() if task in result.metrics}


def _tensors(state: _State, model: AlignmentModel, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {f"model.{k}": v for k, v in weights_of(model).items()}
    tensors |= {f"best.{k}": v for k, v in state.best_weights.items()}
    for i, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v.detach().cpu().contiguous() for k, v in values.items()}
    return tensors


def _restore(
    restored: tuple[dict[str, torch.Tensor], dict[str, Any]], model: AlignmentModel, optimizer: torch.optim.Optimizer
) -> _State:
    tensors, record = restored
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
    return _State(record["epoch"], record["best"], record["stale"], record["history"], best)
