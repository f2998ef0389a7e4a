"""Gradient caching has the losses and gradients of the whole step, and is used for large steps."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import DIM, made_corpus
from unit.training.test_distributed import exact
from vla.batches.corpus import Query
from vla.model import AlignmentModel, ModelConfig
from vla.training import grad_cache
from vla.training import objective as objectives
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.objective import Objective
from vla.training.pooled_embeddings import NUM_SEGMENTS, PairTargets, soft_targets
from vla.training.sampler import BatchPlan, BatchSampler
from vla.training.step import Step

LENGTHS = [2 + (5 * i) % 7 for i in range(11)]
UNTIMED = (2, 3, 8)
EVERY = tuple(range(len(LENGTHS)))
CPU = torch.device("cpu")


def corpus():
    """Videos whose captions say what others' say, too, and tell of moments that are nearly the same."""
    data = made_corpus(LENGTHS)
    more = []
    for i, n in enumerate(LENGTHS):
        # the same words of another video, and a span that shares more than half of its frames with the first moment's, or not
        for text, video, spans in (
            (f"caption of {i % 3}", i, np.zeros((0, 2))),
            (f"moment of {i % 4}", i, np.array([[0.0, n / 4 + (i % 2)]])),
            (f"moment of {i}", i, np.array([[n / 4, n / 2]])),
        ):
            more.append(Query(text, (text,), (text,), video, spans))
    queries = [q for q in (*data.queries, *more) if not (q.is_timed and q.video in UNTIMED)]
    return replace(data, queries=[_in_sentences(q, data.vectors) for q in queries])


def _in_sentences(query, vectors):
    """Every third of them has two, so that pieces differ in how many there are."""
    parts = (
        (query.text, "What happens?")
        if len(query.text) % 3 == 0 and not query.is_timed
        else query.sentences
    )
    assert all(part in vectors for part in parts)
    return replace(query, sentences=parts)


class Exact(BatchPlan):
    """All of it in float64."""

    def batch(self):
        return exact(super().batch())

    def micro_batches(self, max_frames):
        return map(exact, super().micro_batches(max_frames))


def drawn(config, kind=BatchPlan, videos=EVERY):
    actual = BatchSampler(corpus(), config).plan(np.array(videos), 3)
    return kind(actual.arrays, actual.rows, actual.queries, actual.questions)


def model_of(projector="temporal", **options):
    torch.manual_seed(0)
    options = {"width": 8, "heads": 2, **options} if projector == "temporal" else options
    model = AlignmentModel(ModelConfig(DIM, projector, options))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape) * 0.3)
        model.log_scale.fill_(1.5)
    return model.train()


def taken(model):
    actual = {
        name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return actual


@pytest.mark.parametrize("most", [1, 9, 1000])
@pytest.mark.parametrize("levels", ["both", "global", "segment"])
def test_micro_batches_have_the_whole_gradient(most, levels):
    """Moments, and videos of which nothing is timed."""
    config = TrainConfig(
        levels=levels,
        anchor_weight=0.7,
        captions_per_video=3,
        segment_weight=0.6,
    )
    model, objective, some = (
        model_of(dropout=0.0).double(),
        Objective(config),
        drawn(config, Exact),
    )
    whole = objective(model, some.batch())
    torch.stack(list(whole.values())).sum().backward()
    expected = taken(model)
    parts = grad_cache.gradients(model, objective, some, 0, nullcontext, CPU, most)
    actual = taken(model)
    assert {k: v.item() for k, v in parts.items()} == pytest.approx(
        {k: v.item() for k, v in whole.items()}, rel=1e-12
    )
    wanted_parts = {
        "both": {"global", "segment", "alignment"},
        "global": {"global"},
        "segment": {"segment", "alignment"},
    }
    assert set(parts) == {"pull", *wanted_parts[levels]}
    for name, gradient in expected.items():
        assert (gradient is None) == (actual[name] is None), name
        if gradient is not None:
            assert torch.allclose(actual[name], gradient, rtol=1e-10, atol=1e-13), name


def test_losses_from_vectors_match_matrices(monkeypatch):
    config = TrainConfig(captions_per_video=3)
    model, batch = model_of(dropout=0.0).double(), drawn(config, Exact).batch()
    expected = Objective(config)(model, batch)
    monkeypatch.setattr(objectives, "MAX_SCORES", 1)
    actual = Objective(config)(model, batch)
    assert {k: v.item() for k, v in actual.items()} == pytest.approx(
        {k: v.item() for k, v in expected.items()}, rel=1e-12
    )


def test_moment_pairs_match_matrix():
    """Against loops over all pairs."""
    batch = drawn(TrainConfig(captions_per_video=3)).batch()
    timed = batch.is_timed.nonzero().squeeze(1).tolist()
    expected = set()
    for a, i in enumerate(timed):
        for b, j in enumerate(timed):
            inside = [set(batch.inside[k].nonzero().squeeze(1).tolist()) for k in (i, j)]
            common, either = len(inside[0] & inside[1]), len(inside[0] | inside[1])
            of_one = batch.video_of_query[i] == batch.video_of_query[j] and common > either / 2
            if of_one or torch.equal(batch.queries[i], batch.queries[j]):
                expected.add((a, b))
    assert set(map(tuple, PairTargets.from_batch(batch, True).moment_pairs().tolist())) == expected
    assert len(expected) > len(timed) + 10  # there is more to be found than each with itself


def test_micro_batches_partition_the_step():
    some = drawn(TrainConfig(captions_per_video=3), videos=[4, 0, 9, 2, 7, 10])
    whole, parts = some.batch(), list(some.micro_batches(9))
    assert len(parts) > 2
    assert all(len(p.packed_frames) <= 9 or len(p.frames) == 1 for p in parts)
    assert torch.equal(torch.cat([p.packed_frames for p in parts]), whole.packed_frames)
    for name in ("queries", "texts"):
        get = {"queries": lambda p: p.queries, "texts": lambda p: p.questions.vectors}[name]
        rows = [
            sorted(map(tuple, x.tolist())) for x in (torch.cat([get(p) for p in parts]), get(whole))
        ]
        assert rows[0] == rows[1]
    assert some.num_frames == len(whole.packed_frames) and some.num_texts == len(
        whole.queries
    ) + len(whole.questions)


def test_micro_batch_dropout_depends_on_seed():
    config = TrainConfig()
    model, objective, some = model_of(), Objective(config), drawn(config)
    runs = []
    for seed in (5, 5, 6):
        grad_cache.gradients(model, objective, some, seed, nullcontext, CPU, 9)
        runs.append(taken(model)["projector.enter.weight"])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_steps_with_heads_are_not_split(monkeypatch):
    monkeypatch.setattr(grad_cache, "MAX_FRAMES", 8)

    def is_cut(model=None, videos=EVERY, **settings):
        config = TrainConfig(**settings)
        return grad_cache.can_split(
            model or model_of(), Objective(config), drawn(config, videos=videos)
        )

    assert is_cut() and is_cut(levels="global") and is_cut(levels="segment")
    assert not is_cut(videos=[0, 3]), "few frames"
    for name, options in (("retrieval", {"score": "tokens"}), ("choice_qa", {})):
        assert not is_cut(AlignmentModel(ModelConfig(DIM, "identity", heads={name: options})))


def test_soft_alignments_are_batched(monkeypatch):
    """Their mean, weighed by how many there are: a large batch must not take the square of its videos."""
    config = TrainConfig(levels="segment", captions_per_video=3)
    model, objective, batch = (
        model_of(dropout=0.0),
        Objective(config),
        drawn(config).batch(),
    )
    with torch.no_grad():
        softly = soft_targets(batch, True)
        aligned = model(batch)
        segments, mask = aligned.equal_segments(batch.video_of_query[softly], NUM_SEGMENTS)
        expected = 0.0
        for some in ([0, 1], [2]):
            rows = softly[some]
            similarity = torch.einsum("vne,tme->vtnm", segments[some], aligned.sentences[rows])
            expected += len(some) * float(
                objective.untimed_loss(
                    similarity, mask[some], batch.sentence_mask[rows], aligned.scale
                )
            )
        monkeypatch.setattr(objectives, "_ALIGNMENT_BATCH_SIZE", 2)
        assert float(objective(model, batch)["alignment"]) == pytest.approx(expected / 3, rel=1e-6)


@pytest.mark.parametrize("projector", ["temporal", "identity"])
def test_large_steps_are_split(monkeypatch, projector):
    """With the same losses in every step, and to the same weights, but where AdamW divides a gradient of 0 by its own rounding."""
    config = TrainConfig(projector=projector, captions_per_video=3, learning_rate=1e-2)
    weights, lost, random = [], [], torch.get_rng_state()
    for most in (1 << 15, 8):
        monkeypatch.setattr(grad_cache, "MAX_FRAMES", most)
        model = model_of(projector, **({"dropout": 0.0} if projector == "temporal" else {}))
        torch.set_rng_state(random)
        step = Step(model, Objective(config), config, 10, ProcessGroup())
        losses = [step(drawn(config), number) for number in range(3)]
        assert torch.equal(torch.get_rng_state(), random), (
            "the caller's random numbers go on as they were"
        )
        assert all(set(parts) == {"global", "segment", "alignment", "pull"} for parts in losses)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        lost.append([float(value) for parts in losses for _, value in sorted(parts.items())])
    assert lost[1] == pytest.approx(lost[0], rel=1e-4)
    assert ((weights[0] - weights[1]).abs() > 2e-4).double().mean() < 0.02
    assert not torch.allclose(
        weights[0],
        torch.cat([p.detach().flatten() for p in model_of(projector).parameters()]),
        atol=1e-3,
    )
