"""Objective: hashes of equal texts, and the losses of each level."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import DIM, made_corpus, with_tokens
from vla.batches.collate import build_batch
from vla.errors import UsageError
from vla.losses.infonce import Loss
from vla.model import AlignmentModel, ModelConfig
from vla.training.config import TrainConfig
from vla.training.model_setup import select_heads
from vla.training.objective import Objective, _same_text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_hashes_identify_equal_texts(dtype):
    """Vectors of CLIP are about 10 long; a distance by a product of matrices is then off by 0.003."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 30, 200)
    vectors = (rng.standard_normal((30, 64)) * 1.2).astype(np.float32)
    queries = torch.from_numpy(vectors[words]).to(dtype)
    assert torch.equal(_same_text(queries), torch.from_numpy(words[:, None] == words[None]))
    nearly = queries.clone()
    nearly[:, 5] *= 1 + 2e-7
    assert not _same_text(torch.cat([queries, nearly]))[:200, 200:].any()


def told(options, corpus, **settings):
    """Model, batch and losses of all videos of `corpus`."""
    torch.manual_seed(0)
    model = AlignmentModel(
        ModelConfig(DIM, "identity", scale=5.0, heads={"retrieval": options})
    ).eval()
    batch = build_batch(corpus, np.arange(len(corpus.videos)), corpus.queries)
    return model, batch, Objective(TrainConfig(anchor_weight=0.0, **settings))(model, batch)


def test_global_loss_uses_scores_of_the_head():
    score = "tokens"
    corpus = with_tokens(made_corpus())
    model, batch, parts = told({"score": score}, corpus, score=score, levels="global")
    plain = ~batch.is_timed
    with torch.no_grad():
        scores = model.heads["retrieval"](model(batch), batch)[plain] * 5.0
    expected = Loss()(scores, torch.eye(4, dtype=torch.bool))
    assert set(parts) == {"global"}
    assert float(parts["global"].detach()) == pytest.approx(float(expected), rel=1e-5)
    mean = told({}, corpus, levels="global")[2]["global"]
    assert (float(mean.detach()) == float(parts["global"].detach())) == (
        score == "tokens"
    )  # whose share is still 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "attention"}, "score is one of mean, tokens, not 'attention'"),
        (
            {"score": "tokens", "levels": "segment"},
            "score tokens is of the global level, which levels segment leaves out",
        ),
        (
            {"heads": "retrieval", "head_options": {"retrieval": {"score": "tokens"}}},
            "score of the head retrieval: set it",
        ),
        ({"head_options": {"retrieval": {"width": 8}}}, "'retrieval' has options or a weight"),
    ],
)
def test_rejects_invalid_comparisons(settings, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(**settings)


def test_token_score_adds_retrieval_head():
    corpus = made_corpus()
    asked = select_heads(TrainConfig(), corpus)
    assert "retrieval" not in asked
    assert select_heads(TrainConfig(score="tokens"), corpus) == [*asked, "retrieval"]
    assert select_heads(TrainConfig(score="tokens", heads="retrieval"), corpus) == ["retrieval"]
    assert TrainConfig(score="tokens").reads_tokens and not TrainConfig().reads_tokens
    TrainConfig(score="tokens", head_options={"retrieval": {"width": 8}})


@pytest.mark.parametrize("timed", [True, False])
def test_the_segment_level_has_a_weight(timed):
    corpus = made_corpus()
    if not timed:
        corpus = replace(corpus, queries=[q for q in corpus.queries if not q.is_timed])
    every = (told({}, corpus, segment_weight=weight)[2] for weight in (1.0, 0.5, 0.0))
    whole, half, none = (
        {name: float(loss.detach()) for name, loss in parts.items()} for parts in every
    )
    name = "segment" if timed else "alignment"
    assert half[name] == pytest.approx(whole[name] / 2) and half["global"] == whole["global"]
    assert set(whole) == {"global", name} and set(none) == {"global"}
    # where nothing else is learned from it counts as it is
    alone = [told({}, corpus, levels="segment", segment_weight=weight)[2] for weight in (1.0, 0.5)]
    first, second = (float(parts[name].detach()) for parts in alone)
    # A single moment of a video has no loss within it: half of the loss over all segments is left
    # without a global loss, and a fifth with one.
    assert first == second == pytest.approx(whole[name] * (2.5 if timed else 1))
    for weight in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="segment_weight"):
            TrainConfig(segment_weight=weight)
