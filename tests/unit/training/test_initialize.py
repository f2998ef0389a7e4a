"""Initialization: centering is applied if it helps, and the temperature fits the result."""

import math

import numpy as np
import pytest
import torch

from vla.batches.collate import build_batch
from vla.batches.corpus import Corpus, Query
from vla.evaluation import retrieval_protocol
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.validation import validate
from vla.features import FeatureSpec, FrameFeatures
from vla.model import AlignmentModel, ModelConfig
from vla.training.checkpoint import load_model
from vla.training.config import TrainConfig
from vla.training.initialize import CENTERING_CANDIDATES, fit_centering, fit_temperature
from vla.training.loop import train
from vla.training.objective import Objective
from vla.training.split import Split, hold_out_concepts, split_rows

DIM = 16


def gapped(count=80, gap=3.0, seed=0, noise=0.2):
    """Frames and texts that agree but for noise, and a direction of its own that each side has in common."""
    rng = np.random.default_rng(seed)
    shared = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0][:2] * gap
    videos, queries, vectors = [], [], {}
    for i in range(count):
        thing = rng.standard_normal(DIM)
        # Noise along the texts' own direction: with the gap it decides who is found, without it hardly anybody.
        frames = (
            thing + shared[0] + rng.standard_normal((5, DIM)) * 0.2 + rng.normal(0, 0.5) * shared[1]
        )
        videos.append(FrameFeatures(f"v{i}", frames.astype(np.float16), np.arange(5.0), 5.0))
        vectors[f"t{i}"] = (thing + shared[1] + noise * rng.standard_normal(DIM)).astype(np.float32)
        queries.append(Query(f"t{i}", (f"t{i}",), (f"t{i}",), i, np.zeros((0, 2))))
    return Corpus(videos, queries, vectors)


def begun(data):
    model = AlignmentModel(ModelConfig(DIM, "residual", {"width": 8})).eval()
    frames = torch.from_numpy(np.concatenate([v.values for v in data.videos]).astype(np.float32))
    model.projector.fit(frames, torch.from_numpy(np.stack(list(data.vectors.values()))))
    return model


def naive_similarity(data, centering):
    """By hand, in float64: unit vectors, less so much of their mean, made unit again; a video is the mean of its frames."""

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    frames = [unit(v.values.astype(np.float64)) for v in data.videos]
    texts = unit(np.stack(list(data.vectors.values())).astype(np.float64))
    mean = np.concatenate(frames).mean(0)
    videos = unit(np.stack([unit(f - centering * mean).mean(0) for f in frames]))
    return unit(texts - centering * texts.mean(0)) @ videos.T


@pytest.mark.parametrize("centering", [0.0, 0.5, 1.0])
def test_centering_subtracts_the_means(centering):
    data = gapped()
    model = begun(data)
    model.projector.centring.fill_(centering)
    np.testing.assert_allclose(
        retrieval_protocol.searches(CorpusPredictions(model, data))["text to video"].similarity,
        naive_similarity(data, centering),
        atol=2e-6,
    )


def test_centering_is_kept_only_if_it_helps():
    data = gapped()
    model = begun(data)
    tried = []

    def score(m):
        tried.append((float(m.projector.centring), validate(m, data).score))
        return tried[-1][1]

    fit_centering(model, score)
    assert [c for c, _ in tried] == list(CENTERING_CANDIDATES)
    assert float(model.projector.centring) == max(tried, key=lambda pair: pair[1])[0] > 0
    fit_centering(model, lambda m: 1 - float(m.projector.centring))
    assert float(model.projector.centring) == 0
    fit_centering(model, lambda m: 0.5)  # all the same: nothing is taken away without a gain
    assert float(model.projector.centring) == 0
    fit_centering(
        model, lambda m: 0.5 + 0.009 * (m.projector.centring > 0)
    )  # nor for what may be chance
    assert float(model.projector.centring) == 0
    assert fit_centering(model, lambda m: 0.5 + 0.011 * float(m.projector.centring == 0.5))
    assert float(model.projector.centring) == 0.5
    fit_centering(model, lambda m: None)  # nothing to be judged by
    assert float(model.projector.centring) == 0


@pytest.mark.parametrize("centering", [0.0, 1.0])
def test_temperature_minimizes_the_loss(centering):
    data = gapped(noise=1.0)
    model = begun(data)
    model.projector.centring.fill_(centering)
    objective = Objective(TrainConfig(levels="global"))
    parts = [
        build_batch(data, rows, [data.queries[i] for i in rows])
        for rows in np.arange(80).reshape(2, 40)
    ]
    fit_temperature(model, objective, parts)

    def loss(scale):
        total = 0.0
        for rows in np.arange(80).reshape(2, 40):
            scores = scale * naive_similarity(data, centering)[np.ix_(rows, rows)]
            for s in (scores, scores.T):
                total -= (s.diagonal() - np.log(np.exp(s).sum(1))).mean() / 2
        return total

    actual = float(model.scale.detach())
    grid = np.geomspace(2, 200, 400)
    best = grid[np.argmin([loss(s) for s in grid])]
    assert 5 < best < 100  # or the test says nothing
    assert abs(math.log(actual / best)) < 0.1


def test_temperature_is_unchanged_without_captions():
    data = gapped()
    model = begun(data)
    before = float(model.log_scale.detach())
    fit_temperature(model, Objective(TrainConfig()), [build_batch(data, np.arange(4), [])])
    assert float(model.log_scale.detach()) == before


SPEC = FeatureSpec("toy", "16", "none", "none", "fps=1", DIM)
SETTINGS = {
    "projector": "residual",
    "projector_options": {"width": 8},
    "batch_size": 32,
    "levels": "global",
}


def test_run_records_centering(tmp_path):
    data = gapped(160)
    split = hold_out_concepts(split_rows(160, {}, 0.2, 0), data, 0.1, 0)
    done = train(data, split, SPEC, 100.0, TrainConfig(**SETTINGS, epochs=4), tmp_path, "x")
    assert done.is_better and done.record["centring"] > 0
    model = load_model(tmp_path)[0]
    assert float(model.projector.centring) == done.record["centring"]
    fresh = gapped(160, seed=0)
    assert validate(model, fresh).score > validate(begun(fresh), fresh).score


def test_alpha_preserves_held_out_concepts(tmp_path):
    """Captions that contradict the encoder: learning them helps the like of them, and costs everything else."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    videos, queries, vectors = [], [], {}
    for i in range(200):
        thing = rng.standard_normal(DIM)
        # Even ones are told as the encoder sees them, odd ones are marked and told in a turned space.
        thing[0] = 4.0 if i % 2 else -4.0
        told = np.concatenate([[thing[0]], (turn @ thing)[1:]]) if i % 2 else thing
        videos.append(
            FrameFeatures(f"v{i}", np.tile(thing, (3, 1)).astype(np.float16), np.arange(3.0), 3.0)
        )
        vectors[f"t{i}"] = told.astype(np.float32)
        queries.append(Query(f"t{i}", (f"t{i}",), (f"t{i}",), i, np.zeros((0, 2))))
    data = Corpus(videos, queries, vectors)
    odd, even = np.arange(1, 200, 2), np.arange(0, 200, 2)
    settings = TrainConfig(**SETTINGS, epochs=12, learning_rate=2e-2, anchor_weight=0.0)
    unguarded = train(data, Split(odd[:80], odd[80:]), SPEC, 20.0, settings, tmp_path / "a", "x")
    assert unguarded.is_better
    guarded = train(
        data,
        Split(odd[:80], np.concatenate([odd[80:], even]), even),
        SPEC,
        20.0,
        settings,
        tmp_path / "b",
        "x",
    )
    told = guarded.record["untaught"]
    assert not guarded.is_better or told["after"] >= told["before"]
    rest = data.subset(even)
    cost = validate(load_model(tmp_path / "a")[0], rest).score - validate(begun(rest), rest).score
    assert cost < -0.05  # without the guard it does harm
    if guarded.is_better:
        assert (
            validate(load_model(tmp_path / "b")[0], rest).score
            >= validate(begun(rest), rest).score - 1e-6
        )
