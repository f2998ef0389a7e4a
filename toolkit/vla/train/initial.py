"""The model before the first step: the frozen encoder with projector and heads as a corpus needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vla.corpus import Corpus
from vla.errors import UsageError
from vla.heads import registry as heads
from vla.model import AlignmentModel, ModelConfig
from vla.table import starts_of
from vla.train.config import HEADS_BY_QUESTION, TrainConfig

_ENOUGH = 50_000
"""Frames, and texts, from which the projector's whitening is estimated."""


def initial_model(corpus: Corpus, scale: float, config: TrainConfig) -> AlignmentModel:
    """The frozen encoder with what it needs to become another, from `corpus`, which is trained on."""
    options = {name: _planned(name, corpus, config) for name in chosen_heads(config, corpus)}
    sizes = ModelConfig(corpus.dim, config.projector, dict(config.projector_options), min(scale, 100.0), options)
    # The caller's random state is given back, here and in every step: a library must not reseed its user's program.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AlignmentModel(sizes)
    model.projector.fit(*_usual(corpus, config.seed))
    for head in (*model.heads.values(), *model.blind.values()):
        head.fit(corpus)
    return model


def chosen_heads(config: TrainConfig, corpus: Corpus) -> list[str]:
    """The heads to train: those named, or one for each kind of question that is asked; and what compares captions and videos."""
    found = _asked_heads(config, corpus)
    return [*found, "retrieval"] if config.reads_tokens and "retrieval" not in found else found


def _asked_heads(config: TrainConfig, corpus: Corpus) -> list[str]:
    if config.heads != "auto":
        asks: dict[str, str] = {}
        for name in config.head_names:
            other = asks.setdefault(heads.get(name).asks, name)
            if other != name:
                raise UsageError(f"heads {other} and {name} are asked the same: train them in runs of their own")
        return config.head_names
    kinds = {q.question.kind for q in corpus.questions}
    return [head for kind, head in HEADS_BY_QUESTION.items() if kind in kinds]


def _planned(name: str, corpus: Corpus, config: TrainConfig) -> dict[str, Any]:
    given = config.head_options.get(name, {})
    if name == "retrieval" and config.reads_tokens:
        given = {**given, "score": config.score}
    options: dict[str, Any] = heads.get(name).planned(corpus, given)
    return options


def _usual(corpus: Corpus, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw frames and texts of `corpus`, no more than are needed to know what is usual among them."""
    starts = starts_of(len(v.values) for v in corpus.videos)
    chosen = np.sort(np.random.default_rng([seed, 6]).permutation(starts[-1])[:_ENOUGH])
    of_video = np.split(chosen, np.searchsorted(chosen, starts[1:-1]))
    frames = np.concatenate([v.values[i - a] for v, i, a in zip(corpus.videos, of_video, starts, strict=False)])
    told = [*(q.parts for q in corpus.queries), *(q.parts for q in corpus.questions)][:_ENOUGH]
    texts = np.stack([corpus.vector(parts) for parts in told])
    return torch.from_numpy(frames.astype(np.float32)), torch.from_numpy(texts)
