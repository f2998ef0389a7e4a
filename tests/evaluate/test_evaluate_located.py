"""Heads' moments and highlights, and their floors, against loops."""

from dataclasses import replace

import numpy as np
import pytest

from made_corpus import made_corpus
from vla.datasets.base import Saliency
from vla.evaluate import locating
from vla.evaluate.detection import average_precisions
from vla.evaluate.heads import Answered, answer, floor, measure
from vla.evaluate.highlights import highlight_metrics
from vla.evaluate.located import clip_scores, highlighted, unlooked
from vla.evaluate.moments import moment_metrics
from vla.evaluate.seen import Seen
from vla.evaluate.trivial_moments import fit_constant_window
from vla.model import AlignmentModel, ModelConfig


def rated_corpus():
    corpus = made_corpus((12, 8, 10, 9), seed=3)
    marks = {0: Saliency(2.0, (0, 1), ((4, 2), (1, 1))), 1: Saliency(2.0, (1,), ((4, 4),)), 2: Saliency(2.0, (), ())}
    queries = [
        replace(q, annotation=replace(q.annotation, saliency=marks.get(q.video))) if q.is_timed else q
        for q in corpus.queries
    ]
    return replace(corpus, queries=queries)


def test_clips_have_the_mean_of_their_frames():
    video = made_corpus((9,)).videos[0]
    video = replace(video, timestamps_seconds=np.array([0, 0.5, 1, 2, 2.5, 3, 3.5, 6, 6.5]), duration_seconds=7.0)
    shown = np.arange(9.0)
    # The frame of 3.5 s is on screen until 6 s: the only one of the third clip; the fifth lies beyond the end.
    np.testing.assert_allclose(clip_scores(shown, video, 5, 2.0), [1, 4.5, 6, 7.5, 8])


def test_highlights_are_those_of_the_queries_that_were_rated():
    corpus = rated_corpus()
    queries = [q for q in corpus.queries if q.is_timed]
    videos = [corpus.videos[q.video] for q in queries]
    rng = np.random.default_rng(0)
    shown = [rng.standard_normal(len(v.values)) for v in videos]
    ratings = [np.array([[4, 2], [1, 1], [0, 0]]), np.array([[0, 0], [4, 4]])]
    scores = [shown[0].reshape(3, 4).mean(1), shown[1].reshape(2, 4).mean(1)]
    assert highlighted(queries, videos, shown) == pytest.approx(highlight_metrics(scores, ratings, 4))
    assert highlighted(queries, videos, []) == highlighted(queries[3:], videos[3:], shown[3:]) == {}


def test_what_nobody_looked_for():
    corpus = rated_corpus()
    queries = [q for q in corpus.queries if q.is_timed]
    videos = [corpus.videos[q.video] for q in queries]
    parts = (0.95, 0.3, 0.3, 0.3)
    queries = [
        replace(q, spans=np.array([[0, part * v.duration_seconds]]))
        for q, v, part in zip(queries, videos, parts, strict=True)
    ]
    truths = [q.spans for q in queries]
    whole = [np.array([[0.0, v.duration_seconds, 1.0]]) for v in videos]
    lengths = [v.duration_seconds for v in videos]
    window = fit_constant_window(truths, lengths).predict(lengths)
    measured = [moment_metrics(found, truths) for found in (whole, window)]
    assert measured[0]["R1@0.7"] > measured[1]["R1@0.7"] and measured[0]["R1@0.5"] < measured[1]["R1@0.5"]
    found = unlooked(queries, videos, replace(corpus, queries=queries))
    assert {k: found[k] for k in measured[0]} == pytest.approx({k: max(m[k] for m in measured) for k in measured[0]})
    assert found["mAP"] == pytest.approx(100 * max(average_precisions(rows, truths).mean() for rows in (whole, window)))
    # A highlight is one clip of three for the first query, one of two for the second.
    assert found["HL-Hit1"] == pytest.approx(100 * (1 / 3 + 1 / 2) / 2)
    untold = unlooked(queries, videos, replace(corpus, queries=[]))
    assert {k: untold[k] for k in measured[0]} == pytest.approx(measured[0])


def test_the_official_table_takes_what_a_head_says_of_frames():
    corpus = rated_corpus()
    model = AlignmentModel(ModelConfig(corpus.dim, "identity", heads={"moments": {}})).eval()
    said = answer(model, corpus)["moment by head"]
    seen = Seen(model, corpus)
    some = locating.rated(said.asked)
    asked, predicted = [said.asked[i] for i in some], [said.predicted[i] for i in some]
    # The best clip is the first of the one video, the last of the other; a second annotator saw one in one of them only.
    sign = {0: -1, 1: 1}
    shown = [sign[q.video] * np.arange(len(corpus.videos[q.video].values)) for q in asked]
    found = locating.highlights(seen, asked, predicted, shown)
    assert (found["HL-min-VeryGood-mAP"].value, found["HL-min-VeryGood-Hit1"].value) == (75, 100)
    assert locating.highlights(seen, asked, predicted)["HL-min-VeryGood-mAP"].value < 75


def test_figures_of_a_head_and_its_floor():
    corpus = rated_corpus()
    model = AlignmentModel(ModelConfig(corpus.dim, "identity", heads={"moments": {}})).eval()
    said = answer(model, corpus)["moment by head"]
    figures = measure(said)
    truths = [q.spans for q in said.asked]
    assert {k: figures[k] for k in ("R1@0.5", "mIoU")} == pytest.approx(
        {k: moment_metrics(said.predicted, truths)[k] for k in ("R1@0.5", "mIoU")}
    )
    assert {"mAP", "HL-mAP", "HL-Hit1"} <= set(figures)
    assert set(floor(said, corpus)) == set(figures)
    assert [len(row) for row in said.shown] == [len(v.values) for v in said.videos]
    perfect = Answered("moments", said.asked, [np.insert(t, 2, 1.0, axis=1) for t in truths], [])
    assert measure(perfect)["mAP"] == measure(perfect)["R1@0.7"] == pytest.approx(100)
