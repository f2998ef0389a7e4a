"""What a step is told: the same words are known as the same, and noise is as loud as was asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from made_corpus import DIM, made_corpus, with_tokens
from vla.collate import collate
from vla.errors import UsageError
from vla.losses.infonce import Loss
from vla.model import AlignmentModel, ModelConfig
from vla.projectors._layers import noisy
from vla.train.config import TrainConfig
from vla.train.initial import chosen_heads
from vla.train.objective import Objective, _same_text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_very_same_texts_are_known_among_many(dtype):
    """Vectors of CLIP are about 10 long; a distance by a product of matrices is then off by 0.003."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 30, 200)
    vectors = (rng.standard_normal((30, 64)) * 1.2).astype(np.float32)
    queries = torch.from_numpy(vectors[words]).to(dtype)
    assert torch.equal(_same_text(queries), torch.from_numpy(words[:, None] == words[None]))
    nearly = queries.clone()
    nearly[:, 5] *= 1 + 2e-7
    assert not _same_text(torch.cat([queries, nearly]))[:200, 200:].any()


def test_noise_has_its_deviation_and_no_memory():
    torch.manual_seed(0)
    found = noisy(torch.full((300, 401), 2.0), 0.5).double()
    assert float(found.mean()) == pytest.approx(2.0, abs=0.01)
    assert float(found.std()) == pytest.approx(0.5, rel=0.01)
    assert float((found[1:] * found[:-1]).mean()) == pytest.approx(4.0, abs=0.02)
    # as loud at every place of the words that it is cut from
    assert found.flatten()[: 4 * 30_000].view(-1, 4).std(0).tolist() == pytest.approx([0.5] * 4, rel=0.02)


def told(options, corpus, **settings):
    """Model, batch and losses of all videos of `corpus`."""
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(DIM, "identity", scale=5.0, heads={"retrieval": options})).eval()
    batch = collate(corpus, np.arange(len(corpus.videos)), corpus.queries)
    return model, batch, Objective(TrainConfig(pull=0.0, **settings))(model, batch)


@pytest.mark.parametrize("score", ["attention", "tokens"])
def test_the_global_level_loses_by_the_score_of_the_head(score):
    corpus = with_tokens(made_corpus())
    model, batch, parts = told({"score": score}, corpus, score=score, levels="global")
    plain = ~batch.is_timed
    with torch.no_grad():
        scores = model.heads["retrieval"](model(batch), batch)[plain] * 5.0
    wanted = Loss()(scores, torch.eye(4, dtype=torch.bool))
    assert set(parts) == {"global"}
    assert float(parts["global"].detach()) == pytest.approx(float(wanted), rel=1e-5)
    mean = told({}, corpus, levels="global")[2]["global"]
    assert (float(mean.detach()) == float(parts["global"].detach())) == (score == "tokens")  # whose share is still 0


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def likeness(corpus, query, frames):
    """Mean of the best frame of each phrase and of the best phrase of each frame: what equal weights come to."""
    alike = unit([corpus.vectors[p] for p in query.phrases]) @ unit(frames).T
    return (alike.max(1).mean() + alike.max(0).mean()) / 2


def lost(scores, right):
    """Symmetric InfoNCE of one right answer each, in float64."""
    both = [s - np.log(np.exp(s).sum(1, keepdims=True)) for s in (scores, scores.T)]
    return -np.mean([both[0][right].mean(), both[1][right.T].mean()])


def test_phrases_are_compared_with_videos_and_with_the_moments_of_timed_captions():
    corpus = with_tokens(made_corpus((4, 6, 3, 7)))
    model, batch, parts = told({"phrases": True}, corpus, phrases=0.25, levels="none")
    assert set(parts) == {"phrases"}
    queries, videos = [q for q in corpus.queries if q.phrases], corpus.videos
    plain, timed = ([q for q in queries if q.is_timed == wanted] for wanted in (False, True))
    assert len(plain) == len(timed) == 2
    whole = np.array([[likeness(corpus, q, v.values) for v in videos] for q in plain])
    inside = [videos[q.video].values[: round(2 * q.spans[0, 1])] for q in timed]
    moments = np.array([[likeness(corpus, q, frames) for frames in inside] for q in timed])
    right = np.array([[q.video == v for v in range(4)] for q in plain])
    # A column that nobody asks for is no row of the second direction.
    scores = 5 * whole
    rows = -np.mean([s[r][0] - np.log(np.exp(s).sum()) for s, r in zip(scores, right, strict=True)])
    columns = [scores[:, v] for v in range(4) if right[:, v].any()]
    back = -np.mean([c[right[:, q.video]][0] - np.log(np.exp(c).sum()) for c, q in zip(columns, plain, strict=True)])
    wanted = 0.25 * ((rows + back) / 2 + lost(5 * moments, np.eye(2, dtype=bool))) / 2
    assert float(parts["phrases"].detach()) == pytest.approx(wanted, rel=1e-5)
    parts["phrases"].backward()
    for weights in model.heads["retrieval"].weights:
        assert weights.leave.weight.grad.abs().sum() > 0


def test_who_speaks_of_the_same_phrases_in_another_order_is_not_wrong():
    corpus = with_tokens(made_corpus((4, 6, 3, 7)))
    queries = [q for q in corpus.queries if q.phrases and not q.is_timed]
    turned = [queries[0], replace(queries[1], phrases=queries[0].phrases[::-1])]
    one = told({"phrases": True}, replace(corpus, queries=turned), phrases=1.0, levels="none")[2]["phrases"]
    scores = torch.tensor([[likeness(corpus, q, v.values) for v in corpus.videos] for q in turned], dtype=torch.float64)
    own = torch.tensor([[q.video == v for v in range(4)] for q in turned])
    left = (5 * scores).masked_fill(own.any(0) & ~own, -torch.inf)
    assert float(one.detach()) == pytest.approx(float(Loss()(left, own)), rel=1e-5)


def test_phrases_are_left_out_where_no_caption_has_any():
    corpus = made_corpus()
    assert told({"phrases": True}, corpus, phrases=1.0, levels="none")[2] == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "best"}, "score is one of mean, attention, tokens, not 'best'"),
        ({"phrases": -0.1}, "phrases is a weight from 0 up, not -0.1"),
        ({"phrases": float("nan")}, "phrases is a weight"),
        (
            {"score": "tokens", "levels": "segment"},
            "score tokens is of the global level, which levels segment leaves out",
        ),
        (
            {"heads": "retrieval", "head_options": {"retrieval": {"score": "tokens"}}},
            "score of the head retrieval: set it",
        ),
        ({"head_options": {"retrieval": {"temperature": 1.0}}}, "'retrieval' has options or a weight"),
    ],
)
def test_comparisons_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(**settings)


def test_who_compares_by_more_than_means_has_a_head_for_it():
    corpus = made_corpus()
    asked = chosen_heads(TrainConfig(), corpus)
    assert "retrieval" not in asked
    assert chosen_heads(TrainConfig(score="attention"), corpus) == [*asked, "retrieval"]
    assert chosen_heads(TrainConfig(phrases=1.0, heads="retrieval"), corpus) == ["retrieval"]
    assert TrainConfig(score="tokens").reads_tokens and not TrainConfig(score="attention", phrases=1.0).reads_tokens
    assert TrainConfig(projector_options={"tokens": True}).reads_tokens
    TrainConfig(score="attention", head_options={"retrieval": {"temperature": 0.1}})


@pytest.mark.parametrize("timed", [True, False])
def test_the_segment_level_has_a_weight(timed):
    corpus = made_corpus()
    if not timed:
        corpus = replace(corpus, queries=[q for q in corpus.queries if not q.is_timed])
    every = (told({}, corpus, segment_weight=weight)[2] for weight in (1.0, 0.5, 0.0))
    whole, half, none = ({name: float(loss.detach()) for name, loss in parts.items()} for parts in every)
    name = "segment" if timed else "alignment"
    assert half[name] == pytest.approx(whole[name] / 2) and half["global"] == whole["global"]
    assert set(whole) == {"global", name} and set(none) == {"global"}
    # where nothing else is learned from it counts as it is
    alone = [told({}, corpus, levels="segment", segment_weight=weight)[2] for weight in (1.0, 0.5)]
    assert float(alone[0][name].detach()) == float(alone[1][name].detach()) == whole[name]
    for weight in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="segment_weight"):
            TrainConfig(segment_weight=weight)
