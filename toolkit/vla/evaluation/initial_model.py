"""Initial model: the frozen encoder with the untrained heads of a run, as its reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vla.batches.corpus import Corpus
from vla.heads import registry as heads
from vla.heads.base import Head
from vla.model import AlignmentModel, ModelConfig

_SCALE = 100.0


def untrained_model(
    corpus: Corpus,
    trained_model: AlignmentModel | None,
    trained_on: Corpus | None,
    by_question: Mapping[str, str],
) -> AlignmentModel:
    """Build the frozen encoder as a model in evaluation mode, with untrained heads.

    Args:
        corpus: evaluation corpus.
        trained_model: model of the run, for its heads in their initial state; None for the default
            heads of the questions in `corpus`.
        trained_on: corpus that heads take their vocabulary from, if there is no run. Without it,
            only multiple choice, which needs none, has a head.
        by_question: default head of each kind of question.
    """
    if trained_model is not None:
        config = replace(trained_model.config, projector="identity", options={})
    else:
        config = ModelConfig(
            corpus.dim, scale=_SCALE, heads=_default_heads(corpus, trained_on, by_question)
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AlignmentModel(config)
    for name, head in model.heads.items():
        if trained_model is None:
            head.fit(trained_on or corpus)
        else:
            _copy_fitted_state(head, trained_model.heads[name])
    return model.eval()


def _default_heads(
    corpus: Corpus, trained_on: Corpus | None, by_question: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    kinds = {q.question.kind for q in corpus.questions}
    if trained_on is None or not trained_on.questions:
        kinds &= {"choice"}
    names = [by_question[kind] for kind in sorted(kinds) if by_question[kind] in heads.names()]
    return {name: heads.get(name).resolve_options(trained_on or corpus, {}) for name in names}


def _copy_fitted_state(head: Head, trained_head: Head) -> None:
    """Copy the state that `fit` took from the corpus, and not the learned parameters, to `head`."""
    for path, value in _fitted_state(trained_head, trained_head.gate_buffers):
        module_path, _, name = path.rpartition(".")
        setattr(head.get_submodule(module_path), name, value)


def _fitted_state(
    module: nn.Module, gate_buffers: frozenset[str]
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in module.named_buffers():
        if name not in gate_buffers:
            yield name, value.detach().clone()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            yield name, nn.Parameter(parameter.detach().clone(), requires_grad=False)
