"""The frozen encoder with the heads of a run as they were before training: what a run is measured against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vla.batches.corpus import Corpus
from vla.heads import registry as heads
from vla.model import AlignmentModel, ModelConfig

_SCALE = 100.0


def untrained_model(
    corpus: Corpus, trained: AlignmentModel | None, taught: Corpus | None, by_question: Mapping[str, str]
) -> AlignmentModel:
    """The frozen encoder as a model, in evaluation mode, with heads that have learned nothing.

    Args:
        corpus: what will be measured.
        trained: the run's model: its heads as they began. None for the usual heads of the questions in `corpus`.
        taught: what heads take their vocabulary and the like from, where there is no run; without it only choosing among
            choices needs nothing of the kind.
        by_question: the usual head for each kind of question.
    """
    if trained is not None:
        config = replace(trained.config, projector="identity", options={})
    else:
        config = ModelConfig(corpus.dim, scale=_SCALE, heads=_usual(corpus, taught, by_question))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AlignmentModel(config)
    for name, head in model.heads.items():
        if trained is None:
            head.fit(taught or corpus)
        else:
            _take_over(head, trained.heads[name])
    return model.eval()


def _usual(corpus: Corpus, taught: Corpus | None, by_question: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    kinds = {q.question.kind for q in corpus.questions}
    if taught is None or not taught.questions:
        kinds &= {"choice"}
    names = [by_question[kind] for kind in sorted(kinds) if by_question[kind] in heads.names()]
    return {name: heads.get(name).resolve_options(taught or corpus, {}) for name in names}


def _take_over(head: nn.Module, trained: nn.Module) -> None:
    """Give `head` what the trained one has not learned by descent: what `fit` took from the corpus."""
    for path, value in _given(trained):
        where, _, name = path.rpartition(".")
        setattr(head.get_submodule(where), name, value)


def _given(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in module.named_buffers():
        yield name, value.detach().clone()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            yield name, nn.Parameter(parameter.detach().clone(), requires_grad=False)
