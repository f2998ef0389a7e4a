"""Validation during training matches the protocols, and its score is a mean over tasks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus
from support.score_tables import moments
from vla.batches.corpus import Query
from vla.datasets.base import Saliency
from vla.errors import MissingError
from vla.evaluation import moment_protocol
from vla.evaluation.head_answers import answer
from vla.evaluation.predictions import CorpusPredictions, clip_frames
from vla.evaluation.protocols import compute_metrics
from vla.evaluation.saliency import with_saliency_ratings
from vla.evaluation.validation import head_baselines, validate
from vla.metrics.average_precision import average_precisions
from vla.model import AlignmentModel, ModelConfig, zero_shot_model


def rated_corpus():
    corpus = made_corpus((12, 8, 10, 9), seed=3)
    marks = {
        0: Saliency(2.0, (0, 1), ((4, 2), (1, 1))),
        1: Saliency(2.0, (1,), ((4, 4),)),
        2: Saliency(2.0, (), ()),
    }
    queries = [
        replace(q, annotation=replace(q.annotation, saliency=marks.get(q.video)))
        if q.is_timed
        else q
        for q in corpus.queries
    ]
    return replace(corpus, queries=queries)


def test_clip_scores_use_mean_of_frames():
    video = made_corpus((9,)).videos[0]
    video = replace(
        video,
        timestamps_seconds=np.array([0, 0.5, 1, 2, 2.5, 3, 3.5, 6, 6.5]),
        duration_seconds=7.0,
    )
    shown = np.arange(9.0)
    # The frame of 3.5 s is on screen until 6 s: the only one of the third clip; the fifth lies beyond the end.
    np.testing.assert_allclose(
        [shown[rows].mean() for rows in clip_frames(video, 5, 2.0)], [1, 4.5, 6, 7.5, 8]
    )


def test_highlights_use_saliency_of_head():
    corpus = rated_corpus()
    model = AlignmentModel(ModelConfig(corpus.dim, "identity", heads={"moments": {}})).eval()
    said = answer(model, corpus)["moment by head"]
    seen = CorpusPredictions(model, corpus)
    some = with_saliency_ratings(said.examples)
    asked, predicted = [said.examples[i] for i in some], [said.predictions[i] for i in some]
    # The best clip is the first of the one video, the last of the other; a second annotator saw one in one of them only.
    sign = {0: -1, 1: 1}
    shown = [sign[q.video] * np.arange(len(corpus.videos[q.video].values)) for q in asked]
    found = moment_protocol.highlights(seen, asked, predicted, shown)
    assert (found["HL-min-VeryGood-mAP"].value, found["HL-min-VeryGood-Hit1"].value) == (75, 100)
    assert moment_protocol.highlights(seen, asked, predicted)["HL-min-VeryGood-mAP"].value < 75


def test_head_validation_matches_protocol():
    corpus = rated_corpus()
    model = AlignmentModel(ModelConfig(corpus.dim, "identity", heads={"moments": {}})).eval()
    said = answer(model, corpus)["moment by head"]
    truths = [q.spans for q in said.examples]
    metrics = validate(model, corpus).metrics
    precision = 100 * average_precisions(said.predictions, truths).mean()
    assert metrics["moment by head"] == pytest.approx(
        {**moments(said.predictions, truths), "mAP": precision}
    )
    assert {"MR-full-mAP", "HL-min-VeryGood-mAP"} <= set(metrics["highlights by head"])
    assert [len(row) for row in said.saliency] == [
        len(corpus.videos[q.video].values) for q in said.examples
    ]


def test_head_baselines_are_best_of_each_measure():
    corpus = rated_corpus()
    model = AlignmentModel(ModelConfig(corpus.dim, "identity", heads={"moments": {}})).eval()
    queries = [q for q in corpus.queries if q.is_timed]
    trivial = moment_protocol.windows(queries, corpus, corpus)
    values = moment_protocol.in_video_baselines(queries, corpus, trivial).values
    assert set(values) == {"whole video", "constant window", "window grid"}
    found = head_baselines(model, corpus, len(corpus.videos), corpus)
    for measure, value in found["moment by head"].items():
        assert value == pytest.approx(max(of[measure] for of in values.values()))


def rich_corpus(seed=0):
    """Two captions of whole videos and two of moments each, some of them the same for two videos."""
    corpus, rng = made_corpus((12, 8, 10, 9, 7, 11), seed), np.random.default_rng(seed)
    queries = []
    for q in corpus.queries:
        for i in range(2):
            text = f"{q.text} {i}"
            corpus.vectors[text] = rng.standard_normal(corpus.dim).astype(np.float32)
            queries.append(Query(text, (text,), (text,), q.video, q.spans, q.annotation))
    return replace(corpus, queries=queries)


def model_of(corpus):
    torch.manual_seed(0)
    model = AlignmentModel(
        ModelConfig(corpus.dim, "identity", heads={"moments": {}, "choice_qa": {}, "counting": {}})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def test_validation_matches_protocols():
    corpus = rich_corpus()
    model = model_of(corpus)
    official = {}
    for figure in compute_metrics(CorpusPredictions(model, corpus), None, None):
        official.setdefault(figure.task, {})[figure.measure] = figure.value
    found = validate(model, corpus)
    assert set(official) - set(found.metrics) == {"moment in the corpus"}
    assert {task: pytest.approx(official[task]) for task in found.metrics} == found.metrics
    assert set(found.blind) == {"multiple choice", "counting"}


def test_score_is_mean_of_tasks():
    corpus = rich_corpus()
    model = model_of(corpus)
    found, metrics = validate(model, corpus), validate(model, corpus).metrics
    assert list(found.parts) == [
        "text to video",
        "video to text",
        "moment to video",
        "moment in its video",
    ]
    # A run is judged by what an index lists.
    assert list(found.listed_parts) == [
        "text to video",
        "moment to video",
        "moment in its video",
    ]
    said = answer(model, corpus)
    close = [
        1 / (1 + (min(10, max(1, round(float(predicted)))) - q.question.count) ** 2)
        for q, predicted in zip(
            said["counting"].examples, said["counting"].predictions, strict=True
        )
    ]
    by_heads = {
        "moment by head": metrics["moment by head"]["mAP"] / 100,
        "multiple choice": metrics["multiple choice"]["accuracy"] / 100,
        "counting": np.mean(close),
    }
    by_search = [values.value for values in found.parts.values()]
    assert found.search == pytest.approx(np.mean(by_search))
    assert {k: v.value for k, v in found.head_parts.items()} == pytest.approx(by_heads)
    # Heads are selected by themselves, not by a search that many times as many queries decide.
    assert found.selection == found.head_parts
    assert found.score == pytest.approx(np.mean(list(by_heads.values())))
    # A video is found by any of its captions, each a candidate of its own, as `video to texts` has it.
    rank = 1 / found.parts["video to text"].by_query
    assert rank.mean() == pytest.approx(metrics["video to texts"]["MnR"])
    without = validate(model, corpus, heads=False)
    assert without.search == without.score == found.search
    assert without.selection == without.parts and not without.head_parts


def test_search_score_of_some_videos():
    corpus = rich_corpus()
    found = validate(zero_shot_model(corpus.dim, 1.0), corpus)
    expected = [
        np.mean([v for v, video in zip(part.by_query, part.videos, strict=True) if video >= 4])
        for part in found.parts.values()
    ]
    assert found.search_of(lambda videos: videos >= 4) == pytest.approx(np.mean(expected))
    assert found.search_of(lambda videos: videos < 0) == 0


def test_moments_find_videos_by_reciprocal_rank():
    corpus = rich_corpus()
    model = model_of(corpus)
    scores = CorpusPredictions(model, corpus).moment_predictions.video_scores
    queries = [q for q in corpus.queries if q.is_timed]
    naive = [
        1 / sum(score >= row[q.video] for score in row)
        for row, q in zip(scores, queries, strict=True)
    ]
    assert len(set(naive)) > 2
    np.testing.assert_allclose(validate(model, corpus).parts["moment to video"].by_query, naive)


def test_query_mask_keeps_all_candidates():
    corpus = rich_corpus()
    model = zero_shot_model(corpus.dim, 1.0)
    every, some = validate(model, corpus), validate(model, corpus, 2)
    for task, values in every.parts.items():
        of = values.videos < 2
        np.testing.assert_array_equal(some.parts[task].by_query, values.by_query[of])
        np.testing.assert_array_equal(some.parts[task].videos, values.videos[of])
    chosen = np.arange(len(corpus.queries)) % 3 == 1
    masked = validate(model, corpus, 0, chosen)
    queries = [q for q, is_chosen in zip(corpus.queries, chosen, strict=True) if is_chosen]
    assert len(masked.parts["text to video"].by_query) == sum(not q.is_timed for q in queries)
    assert masked.parts["moment to video"].videos.tolist() == [
        q.video for q in queries if q.is_timed
    ]
    with pytest.raises(MissingError, match="no captions and no answered questions"):
        validate(model, corpus, 0)
