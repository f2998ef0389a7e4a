"""Retrieval head: scores in training and reranking, and the initial state of `tokens`."""

import math

import numpy as np
import pytest
import torch

from support.made_corpus import DIM, made_corpus, with_tokens
from vla.batches.collate import build_batch
from vla.errors import UsageError
from vla.heads import registry
from vla.model import AlignmentModel, ModelConfig

LENGTHS = (4, 2, 3, 7)


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def built(options, projector="identity", shake=0.5, **more):
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(DIM, projector, more, heads={"retrieval": options})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += shake * torch.randn_like(parameter)
    return model


def naive(corpus, query, video, head):
    """The score in float64, by what the head's docstring says."""
    frames, text = unit(corpus.videos[video].values), unit(corpus.text_vector(query))
    whole = float(text @ unit(frames.mean(0)))
    if head.interaction is None:
        return whole
    tokens = corpus.tokens_of([query.chunks])[0]
    if not len(tokens):
        return whole
    words = unit(tokens)
    a, b = (
        weighed(net, some)
        for net, some in ((head.interaction.words, words), (head.interaction.frames, frames))
    )
    alike = words @ frames.T
    actual = (sum(a * alike.max(1)) + sum(b * alike.max(0))) / 2
    return whole + float(head.interaction.share.detach()) * (actual - whole)


def weighed(net, vectors):
    weights = {k: v.double().numpy() for k, v in net.state_dict().items()}
    hidden = vectors @ weights["enter.weight"].T + weights["enter.bias"]
    active = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
    logits = np.exp(active @ weights["leave.weight"][0])
    return logits / logits.sum()


OPTIONS = ({}, {"score": "tokens", "width": 6})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scores_match_naive_scores(options):
    corpus = with_tokens(made_corpus(LENGTHS, seed=2))
    assert [] in [some.tolist() for some in corpus.tokens_of(q.chunks for q in corpus.queries)]
    model = built(options)
    head = model.heads["retrieval"]
    batch = build_batch(corpus, np.arange(4), corpus.queries)
    with torch.no_grad():
        aligned = model(batch)
        actual = head(aligned, batch)
    expected = [[naive(corpus, q, v, head) for v in range(4)] for q in corpus.queries]
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    rows = torch.tensor([True, False, False, True, True, False, True, False])
    torch.testing.assert_close(head.scores(aligned, rows), actual[rows])
    assert head.reads_tokens == model.compares_tokens == ("width" in options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rerank_matches_training_scores(options):
    """Some texts and some videos, from arrays, as search has them."""
    corpus = with_tokens(made_corpus(LENGTHS, seed=2))
    model = built(options, "residual", 0.2, width=8)
    batch = build_batch(corpus, np.arange(4), corpus.queries)
    with torch.no_grad():
        expected = model.heads["retrieval"](model(batch), batch).numpy()
    told = [q.chunks for q in corpus.queries]
    texts = model.align_texts(np.stack([corpus.vector(t) for t in told]))
    tokens, frames = model.align_tokens(corpus.tokens_of(told)), model.align_videos(corpus.videos)
    for rows, videos in (([0], [2, 0, 3]), ([4, 1, 2], [1]), ([6, 7], [3, 1])):
        said = [tokens[row] for row in rows] if model.compares_tokens else None
        actual = model.rerank(texts[rows], said, [frames[i] for i in videos])
        np.testing.assert_allclose(actual, expected[rows][:, videos], atol=2e-5)


def test_token_scores_start_at_mean_scores():
    corpus = with_tokens(made_corpus(LENGTHS))
    batch = build_batch(corpus, np.arange(4), corpus.queries)
    for training in (True, False):
        models = [
            built(options, shake=0.0).train(training) for options in ({}, {"score": "tokens"})
        ]
        plain, own = (m.heads["retrieval"](m(batch), batch) for m in models)
        assert torch.equal(plain, own)
    own.square().sum().backward()
    assert float(models[1].heads["retrieval"].interaction.share.grad.abs()) > 0


def test_texts_without_tokens_keep_mean_scores():
    """A search by a text of which nobody has the tokens."""
    corpus = made_corpus(LENGTHS)
    model = built({"score": "tokens"})
    batch = build_batch(corpus, np.arange(4), corpus.queries)
    actual, plain = (
        model.heads["retrieval"](model(batch), batch),
        built({}).heads["retrieval"](model(batch), batch),
    )
    torch.testing.assert_close(actual, plain, rtol=0, atol=0)
    frames = model.align_videos(corpus.videos)
    text = model.align_texts(corpus.text_vector(corpus.queries[0])[None])
    np.testing.assert_allclose(model.rerank(text, None, frames)[0], plain[0].detach(), atol=1e-6)


def test_model_without_head_ranks_by_mean():
    corpus = made_corpus(LENGTHS)
    model = AlignmentModel(ModelConfig(DIM)).eval()
    text = model.align_texts(corpus.text_vector(corpus.queries[3])[None])
    actual = model.rerank(text, None, model.align_videos(corpus.videos))[0]
    expected = [naive(corpus, corpus.queries[3], v, registry.build("retrieval")) for v in range(4)]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_rejects_unknown_score():
    with pytest.raises(UsageError, match="score is one of mean, tokens, not 'attention'"):
        registry.build("retrieval", {"score": "attention"}, dim=DIM)
