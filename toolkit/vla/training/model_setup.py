"""The initial model: the frozen encoder with a projector and heads that fit a corpus."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vla.batches.arrays import starts_of
from vla.batches.corpus import Corpus
from vla.errors import UsageError
from vla.heads import registry as heads
from vla.model import AlignmentModel, ModelConfig
from vla.training.config import HEADS_BY_QUESTION, TrainConfig

_MAX_ROWS = 50_000
"""Frames, and texts, from which the projector's statistics are estimated."""


def initial_model(corpus: Corpus, scale: float, config: TrainConfig) -> AlignmentModel:
    """Return the frozen encoder with an untrained projector and heads.

    Args:
        corpus: the training corpus.
        scale: of the encoder; at most 100 is used.
        config: of the run.
    """
    options = {
        name: _resolve_options(name, corpus, config) for name in select_heads(config, corpus)
    }
    sizes = ModelConfig(
        corpus.dim, config.projector, dict(config.projector_options), min(scale, 100.0), options
    )
    # The caller's random state is restored, here and in every step: a library must not reseed a
    # program.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AlignmentModel(sizes)
    model.projector.fit(*_sample_rows(corpus, config.seed))
    for head in (*model.heads.values(), *model.blind.values()):
        head.fit(corpus)
    return model


def select_heads(config: TrainConfig, corpus: Corpus) -> list[str]:
    """Return the names of the heads to train.

    With `heads` `auto` there is one for each kind of question in `corpus`. `retrieval` is added
    where tokens are compared.
    """
    names = _configured_heads(config, corpus)
    return [*names, "retrieval"] if config.reads_tokens and "retrieval" not in names else names


def _configured_heads(config: TrainConfig, corpus: Corpus) -> list[str]:
    if config.heads != "auto":
        head_of_task: dict[str, str] = {}
        for name in config.head_names:
            other = head_of_task.setdefault(heads.get(name).task, name)
            if other != name:
                raise UsageError(
                    f"heads {other} and {name} handle the same task: train them in separate runs"
                )
        return config.head_names
    kinds = {q.question.kind for q in corpus.questions}
    return [head for kind, head in HEADS_BY_QUESTION.items() if kind in kinds]


def _resolve_options(name: str, corpus: Corpus, config: TrainConfig) -> dict[str, Any]:
    options = config.head_options.get(name, {})
    if name == "retrieval" and config.reads_tokens:
        options = {**options, "score": config.score}
    return dict(heads.get(name).resolve_options(corpus, options))


def _sample_rows(corpus: Corpus, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return raw frames and texts of `corpus`, at most `_MAX_ROWS` of each."""
    starts = starts_of(len(v.values) for v in corpus.videos)
    rows = np.sort(np.random.default_rng([seed, 6]).permutation(starts[-1])[:_MAX_ROWS])
    of_video = np.split(rows, np.searchsorted(rows, starts[1:-1]))
    frames = np.concatenate(
        [v.values[i - a] for v, i, a in zip(corpus.videos, of_video, starts, strict=False)]
    )
    chunks = [*(q.chunks for q in corpus.queries), *(q.chunks for q in corpus.questions)][
        :_MAX_ROWS
    ]
    texts = np.stack([corpus.vector(text) for text in chunks])
    return torch.from_numpy(frames.astype(np.float32)), torch.from_numpy(texts)
