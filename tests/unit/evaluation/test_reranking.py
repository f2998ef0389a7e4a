"""Reranking: the model's own score orders the top candidates and nothing else."""

import numpy as np
import pytest
import torch

from support.made_corpus import DIM, made_corpus, with_tokens
from support.score_tables import retrieval
from vla.batches.corpus import Query
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.protocols import compute_metrics
from vla.evaluation.reranking import rerank_best
from vla.evaluation.validation import validate
from vla.metrics.retrieval import ranks
from vla.model import AlignmentModel, ModelConfig, zero_shot_model

LENGTHS = (4, 2, 3, 7, 5, 6, 3, 8)


def model_of(options, shake=0.5):
    torch.manual_seed(1)
    model = AlignmentModel(ModelConfig(DIM, "identity", heads={"retrieval": options})).eval()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter += shake * torch.randn_like(parameter)
    return model


def vectors(model, corpus):
    queries = [q for q in corpus.queries if not q.is_timed]
    texts = model.align_texts(np.stack([corpus.text_vector(q) for q in queries]))
    tokens = (
        model.align_tokens(corpus.tokens_of(q.chunks for q in queries))
        if model.compares_tokens
        else None
    )
    frames = model.align_videos(corpus.videos)
    means = np.stack([f.mean(0) for f in frames])
    return texts, tokens, frames, texts @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T


OPTIONS = {"score": "tokens"}


@pytest.mark.parametrize("most", [1, 3, 8, 100])
def test_reranks_top_candidates_and_keeps_others(most):
    corpus = with_tokens(made_corpus(LENGTHS))
    model = model_of(OPTIONS)
    texts, tokens, frames, similarity = vectors(model, corpus)
    own = model.rerank(texts, tokens, frames)
    found = rerank_best(model, similarity, texts, tokens, frames, depth=most)
    for scores, plain, wanted in zip(found, (similarity, similarity.T), (own, own.T), strict=True):
        for row, before, after in zip(scores, plain, wanted, strict=True):
            order = np.argsort(-before)
            best, rest = order[:most], order[most:]
            assert np.argsort(-row).tolist() == [*best[np.argsort(-after[best])], *rest]
            np.testing.assert_allclose(row[best], after[best], atol=1e-6)


def test_reranks_searching_rows_only():
    corpus = with_tokens(made_corpus(LENGTHS))
    model = model_of(OPTIONS)
    texts, tokens, frames, similarity = vectors(model, corpus)
    some, back = np.arange(8) % 3 == 0, np.arange(8) > 5
    to_video, to_text = rerank_best(model, similarity, texts, tokens, frames, depth=4)
    found = rerank_best(model, similarity, texts, tokens, frames, (some, back), depth=4)
    np.testing.assert_allclose(found[0], to_video[some], atol=1e-6)
    np.testing.assert_allclose(found[1], to_text[back], atol=1e-6)
    nobody = rerank_best(model, similarity, texts, tokens, frames, (some & False, back & False))
    assert nobody[0].shape == (0, 8) and nobody[1].shape == (0, 8)


def test_validation_reports_reranked_tasks_apart_from_search_score():
    corpus = with_tokens(made_corpus(LENGTHS))
    model = model_of(OPTIONS, shake=3.0)
    plain, own = validate(zero_shot_model(DIM, 1.0), corpus), validate(model, corpus)
    assert own.search == pytest.approx(plain.search)
    new = {"text to video reranked", "video to text reranked"}
    assert set(own.metrics) - set(plain.metrics) == new
    assert {t: own.metrics[t] for t in plain.metrics} == plain.metrics
    texts, tokens, frames, similarity = vectors(model, corpus)
    both = rerank_best(model, similarity, texts, tokens, frames)
    right = np.eye(8, dtype=bool)
    assert own.metrics["text to video reranked"] == retrieval(both[0], right)
    assert own.metrics["video to text reranked"] == retrieval(both[1], right)
    assert own.metrics["text to video reranked"] != own.metrics["text to video"]
    parts = [float((1 / ranks(scores, right)).mean()) for scores in both]
    assert own.score == pytest.approx(np.mean(parts))
    assert set(validate(model, corpus, heads=False).metrics) == set(plain.metrics)


def test_untrained_token_score_equals_mean_score():
    corpus = with_tokens(made_corpus(LENGTHS))
    metrics = validate(model_of(OPTIONS, shake=0.0), corpus).metrics
    assert metrics["text to video reranked"] == metrics["text to video"]
    assert metrics["video to text reranked"] == metrics["video to text"]


def test_protocols_report_reranked_tasks_without_tricks():
    corpus = with_tokens(made_corpus(LENGTHS))
    model = model_of(OPTIONS)
    whole = [
        Query(q.text, q.chunks, q.chunks, q.video, np.zeros((0, 2)))
        for q in corpus.queries
        if q.is_timed
    ]
    figures = compute_metrics(
        CorpusPredictions(model, corpus, whole),
        CorpusPredictions(zero_shot_model(DIM, 1.0), corpus, whole),
        None,
        ("retrieval", "paragraphs"),
    )
    by_task = {}
    for figure in figures:
        by_task.setdefault(figure.task, []).append(figure)
    for name in ("text", "paragraph"):
        for task in (f"{name} to video", f"video to {name}"):
            assert [f.measure for f in by_task[task]] == [
                f.measure for f in by_task[f"{task} reranked"]
            ]
            assert all(f.tricks for f in by_task[task]) and not any(
                f.tricks for f in by_task[f"{task} reranked"]
            )
            assert all(f.floors for f in by_task[f"{task} reranked"])
    texts, tokens, frames, similarity = vectors(model, corpus)
    wanted = retrieval(
        rerank_best(model, similarity, texts, tokens, frames)[0], np.eye(8, dtype=bool)
    )
    found = {f.measure: f.value for f in by_task["text to video reranked"]}
    assert found["R@1"] == pytest.approx(wanted["R@1"]) and found["MnR"] == pytest.approx(
        wanted["MnR"]
    )
