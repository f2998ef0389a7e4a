"""Protocols: metrics match naive loops over scores, and have their baselines."""

from dataclasses import replace

import numpy as np
import pytest

from support import naive_search
from support.made_corpus import made_corpus
from support.score_tables import (
    accuracy,
    corpus_moments,
    counting,
    grounding,
    moments,
    partially_relevant,
    qvhighlights,
    text_to_video,
    video_to_text,
    video_to_texts,
)
from vla.batches.corpus import Query
from vla.datasets.base import Annotation, Question, Saliency
from vla.errors import MissingError, UnknownNameError
from vla.evaluation import moment_protocol, qa_protocol, retrieval_protocol
from vla.evaluation.head_answers import HeadAnswers
from vla.evaluation.initial_model import untrained_model
from vla.evaluation.predictions import CorpusPredictions, rank_moments
from vla.evaluation.protocols import GROUPS, compute_metrics
from vla.evaluation.results import LOWER
from vla.features import FrameFeatures
from vla.metrics.average_precision import average_precisions
from vla.metrics.baselines import retrieval_chance
from vla.metrics.highlights import clip_ratings
from vla.metrics.moment_baselines import whole_video
from vla.metrics.similarity_normalization import dual_softmax, querybank
from vla.model import AlignmentModel, ModelConfig, zero_shot_model
from vla.spans import iou, nms, windows

LENGTHS = (8, 5, 12, 6, 9)


def rich_corpus(seed=0, captions_per_video=1):
    """Captions of both kinds, rated clips, paragraphs, and questions whose answer some span shows."""
    corpus = made_corpus(LENGTHS, seed)
    queries, rng = [], np.random.default_rng(seed)
    for q in corpus.queries:
        if not q.is_timed:
            for i in range(captions_per_video):
                text = f"{q.text} {i}"
                corpus.vectors.setdefault(text, rng.standard_normal(corpus.dim).astype(np.float32))
                told = Annotation(f"{q.annotation.query_id}.{i}", text, q.annotation.video)
                queries.append(Query(text, (text,), (text,), q.video, q.spans, told))
            continue
        clips = tuple(range(int(2 * q.spans[0, 1])))
        marks = Saliency(
            0.5, clips, tuple(tuple(float(s) for s in rng.integers(0, 5, 3)) for _ in clips)
        )
        told = replace(q.annotation, saliency=marks, paragraph=f"p{q.video}", sentence=0)
        queries.append(replace(q, annotation=told))
    asked = tuple(
        replace(
            q,
            annotation=replace(
                q.annotation, spans=((0.5, 1.5),), category=("CW", "TP", "TN", "DL", "CH")[q.video]
            ),
        )
        for q in corpus.questions
    )
    return replace(corpus, queries=queries, questions=asked)


def paragraphs_of(corpus):
    return [replace(q, spans=np.zeros((0, 2))) for q in corpus.queries if q.is_timed]


def model_of(corpus, shake=0.0):
    import torch

    model = AlignmentModel(ModelConfig(corpus.dim, "identity", heads={"choice_qa": {}})).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for head in (*model.heads.values(), *model.blind.values()):
            for parameter in head.parameters():
                parameter += shake * torch.randn_like(parameter)
    return model


def unit(vector):
    vector = np.asarray(vector, np.float64)
    return vector / np.linalg.norm(vector)


def plain_scores(corpus, queries):
    """`(Q, V)` cosines of texts with mean unit frames, one by one."""
    means = [unit(np.mean([unit(f) for f in v.values], axis=0)) for v in corpus.videos]
    return np.array([[unit(corpus.text_vector(q)) @ m for m in means] for q in queries])


def plain_segments(corpus, query, video):
    """`(N, 3)` start, end and score of every candidate moment of a video, one by one."""
    v = corpus.videos[video]
    frames = [unit(f) for f in v.values]
    return np.array(
        [
            (
                start,
                end,
                unit(np.mean(frames[first:last], axis=0)) @ unit(corpus.text_vector(query)),
            )
            for first, last, start, end in windows(v.timestamps_seconds, v.duration_seconds)
        ]
    )


def plain_moments(corpus, text, video, count):
    """`(N, 3)` moments of the curve of a text in a video, by trying every range of frames; then the
    windows of higher contrast that overlap none before by more than half.
    """
    v = corpus.videos[video]
    cosines = [unit(f) @ unit(text) for f in v.values]
    curve = naive_search.Curve(cosines, v.timestamps_seconds, v.duration_seconds)
    rows = [tuple(row) for row in curve.moments(count)]
    contrasts = []
    for first, last, start, end in windows(v.timestamps_seconds, v.duration_seconds):
        gain = sum((curve.values[i] - curve.mean) * curve.seconds[i] for i in range(first, last))
        contrasts.append((gain / (end - start) ** 0.5, start, end))
    lowest, highest = rows[-1][2], max(c for c, _, _ in contrasts)
    for contrast, start, end in sorted(contrasts, key=lambda row: -row[0]):
        is_new = all(iou([(start, end)], [row[:2]])[0, 0] <= 0.5 for row in rows)
        if contrast > 1e-9 and is_new and len(rows) < count:
            rows.append((start, end, lowest * contrast / highest))
    return np.array(rows)


def suppressed(predictions, threshold):
    """TVR's NMS option, one video after the other: of rows of video, start, end and score those that overlap no better one."""
    rows, kept = predictions[:1000], []
    for video in dict.fromkeys(rows[:, 0].tolist()):
        own = np.flatnonzero(rows[:, 0] == video)
        kept.append(own[nms(rows[own, 1:3], rows[own, 3], threshold, most=100)])
    left = rows[np.concatenate(kept)]
    return left[np.argsort(-left[:, 3], kind="stable")[:100]]


def by_task(found):
    tasks = {}
    for f in found:
        tasks.setdefault(f.task, {})[f.measure] = f
    return tasks


def values(figures_of_task):
    return {name: f.value for name, f in figures_of_task.items()}


@pytest.fixture(scope="module")
def all_measured():
    corpus = rich_corpus(captions_per_video=2)
    bank = rich_corpus(seed=7)
    model, plain = model_of(corpus, shake=0.3), zero_shot_model(corpus.dim, 1.0)
    seen = CorpusPredictions(model, corpus, paragraphs_of(corpus))
    found = compute_metrics(
        seen,
        CorpusPredictions(untrained_model(corpus, model, None, {}), corpus, paragraphs_of(corpus)),
        CorpusPredictions(model, bank, paragraphs_of(bank)),
    )
    return corpus, bank, seen, plain, by_task(found)


def test_tasks_are_in_order_of_groups(all_measured):
    assert list(all_measured[4]) == [
        "text to video", "video to text", "video to texts", "paragraph to video", "video to paragraph", "moment to video",
        "moment in its video", "moment in the corpus", "highlights", "multiple choice", "grounded answers",
    ]  # fmt: skip


def test_every_metric_has_baseline_and_lies_in_interval(all_measured):
    for task, of_task in all_measured[4].items():
        for measure, figure in of_task.items():
            assert (figure.best_baseline is not None) or figure.no_floor, (task, measure)
            assert figure.best_baseline is not None, (
                task,
                measure,
            )  # here everything is known that a floor can be fitted to
            assert figure.low - 0.006 <= figure.value <= figure.high + 0.006, (task, measure)
            assert figure.frozen is not None, (task, measure)
            assert figure.queries >= figure.videos >= 1


def test_names_baselines_missing_without_training_annotations():
    corpus = rich_corpus()
    found = compute_metrics(CorpusPredictions(model_of(corpus), corpus, []), None, None)
    for figure in found:
        assert figure.best_baseline is not None or figure.no_floor
        assert figure.frozen is None
        assert "+QB-Norm" not in figure.tricks
    assert all(
        f.no_floor.startswith("no constant window") for f in found if f.task == "grounded answers"
    )
    moments = [f for f in found if f.task == "moment in its video"]
    assert all(
        "no constant window" in f.no_floor and set(f.floors) == {"whole video", "window grid"}
        for f in moments
    )


def test_retrieval_matches_metrics_of_plain_cosines(all_measured):
    corpus, bank, _, _, tasks = all_measured
    queries = [q for q in corpus.queries if not q.is_timed]
    owner = np.array([q.video for q in queries])
    scores = plain_scores(corpus, queries)
    assert values(tasks["text to video"]) == pytest.approx(text_to_video(scores, owner))
    assert values(tasks["video to text"]) == pytest.approx(video_to_text(scores, owner))
    assert values(tasks["video to texts"]) == pytest.approx(video_to_texts(scores, owner))
    chance = retrieval_chance(len(queries), np.full(len(LENGTHS), 2))
    assert {m: f.floors["chance"] for m, f in tasks["video to texts"].items()} == pytest.approx(
        chance
    )
    told = paragraphs_of(corpus)
    assert values(tasks["paragraph to video"]) == pytest.approx(
        text_to_video(plain_scores(corpus, told), np.array([q.video for q in told]))
    )


def test_inference_tricks_match_their_functions(all_measured):
    corpus, bank, _, _, tasks = all_measured
    queries = [q for q in corpus.queries if not q.is_timed]
    owner, scores = np.array([q.video for q in queries]), plain_scores(corpus, queries)
    others = replace(bank, videos=corpus.videos)
    asked = plain_scores(others, [q for q in bank.queries if not q.is_timed])
    wanted = {
        "+DSL": text_to_video(dual_softmax(scores), owner),
        "+QB-Norm": text_to_video(querybank(scores, asked), owner),
    }
    for name, metrics in wanted.items():
        assert {m: f.tricks[name] for m, f in tasks["text to video"].items()} == pytest.approx(
            metrics
        )
    assert all(not f.tricks for f in tasks["moment in its video"].values())


def test_video_to_text_bank_consists_of_training_videos(all_measured):
    corpus, bank, seen, plain, tasks = all_measured
    queries = [q for q in corpus.queries if not q.is_timed]
    back = plain_scores(corpus, queries).T
    shown = plain_scores(replace(corpus, videos=bank.videos), queries).T
    relevant = np.arange(len(LENGTHS))[:, None] == np.array([q.video for q in queries])
    wanted = retrieval_protocol.measures(
        retrieval_protocol.Search(querybank(back, shown), relevant, np.arange(len(LENGTHS)))
    )
    found = {m: f.tricks["+QB-Norm"] for m, f in tasks["video to texts"].items()}
    assert found == pytest.approx({m: v.value for m, v in wanted.items()})


def test_moments_match_metrics_of_plain_curves_and_segments(all_measured):
    corpus, _, _, _, tasks = all_measured
    timed = [q for q in corpus.queries if q.is_timed]
    own, best, everywhere = [], [], []
    for q in timed:
        every = [plain_segments(corpus, q, v) for v in range(len(LENGTHS))]
        best.append([rows[:, 2].max() for rows in every])
        own.append(plain_moments(corpus, corpus.text_vector(q), q.video, 10))
        rows = np.concatenate([np.insert(r, 0, v, axis=1) for v, r in enumerate(every)])
        everywhere.append(suppressed(rows[np.argsort(-rows[:, 3], kind="stable")], 0.5))
    owner, truths = np.array([q.video for q in timed]), [q.spans for q in timed]
    assert values(tasks["moment to video"]) == pytest.approx(
        partially_relevant(np.array(best), owner)
    )
    precision = 100 * average_precisions(own, truths).mean()
    assert values(tasks["moment in its video"]) == pytest.approx(
        {**moments(own, truths), "mAP": precision}
    )
    assert values(tasks["moment in the corpus"]) == pytest.approx(
        corpus_moments(everywhere, owner, truths)
    )
    lengths = [corpus.videos[v].duration_seconds for v in owner]
    floor = moments(whole_video(lengths), truths)
    floor["mAP"] = 100 * average_precisions(whole_video(lengths), truths).mean()
    assert {
        m: f.floors["whole video"] for m, f in tasks["moment in its video"].items()
    } == pytest.approx(floor)


def planted_corpus(cosines, seconds=1.0):
    """A timed query, and a video whose frames have these cosines with it."""
    texts = np.eye(8, dtype=np.float32)[:1]
    values = np.zeros((len(cosines), 8))
    values[:, 0] = cosines
    values[np.arange(len(cosines)), 1 + np.arange(len(cosines)) % 7] = np.sqrt(
        1 - np.square(cosines)
    )
    times = np.arange(len(cosines)) * seconds
    video = FrameFeatures("v", values.astype(np.float32), times, seconds * len(cosines))
    told = Annotation("1", "a", "v", ((3.0, 6.0),))
    query = Query("a", ("a",), ("a",), 0, np.array([[3.0, 6.0]]), told)
    return replace(made_corpus(), videos=[video], queries=[query], vectors={"a": texts[0]})


def test_moment_in_its_video_by_hand():
    """Mean .31, peak .8: one moment explains all of the variance, so the threshold is .555."""
    corpus = planted_corpus([0.1, 0.1, 0.1, 0.8, 0.8, 0.8, 0.1, 0.1, 0.1, 0.1])
    seen = CorpusPredictions(zero_shot_model(corpus.dim, 1.0), corpus)
    (moments,) = seen.moment_predictions.own_video
    np.testing.assert_allclose(moments[0], [3, 6, 1], atol=1e-6)
    # Then windows of 4 s at 2 s each: 2 to 6 covers three frames of the moment at an IoU of 3/4,
    # so it is left out; of the rest only windows with more than the mean of the curve follow.
    assert (np.diff(moments[:, 2]) <= 0).all() and len(moments) <= 10
    assert all(
        iou(moments[:i, :2], moments[i : i + 1, :2]).max() <= 0.5 for i in range(1, len(moments))
    )
    # One more frame as high has a third of the excess of three, whatever the threshold. The filter
    # of .25 s takes .0003 of a frame to each side.
    corpus = planted_corpus([0.1, 0.1, 0.1, 0.8, 0.8, 0.8, 0.1, 0.8, 0.1, 0.1])
    seen = CorpusPredictions(zero_shot_model(corpus.dim, 1.0), corpus)
    (moments,) = seen.moment_predictions.own_video
    np.testing.assert_allclose(moments[:2, :2], [[3, 6], [7, 8]])
    np.testing.assert_allclose(moments[:2, 2], [1, 1 / 3], atol=1e-3)


@pytest.mark.parametrize("cosines", [[0.4], [0.4] * 5])
def test_flat_curve_is_one_moment(cosines):
    corpus = planted_corpus(cosines)
    corpus.queries[0] = replace(corpus.queries[0], spans=np.array([[0.0, 1.0]]))
    seen = CorpusPredictions(zero_shot_model(corpus.dim, 1.0), corpus)
    np.testing.assert_allclose(seen.moment_predictions.own_video, [[[0, len(cosines), 1]]])


def test_moments_in_own_video_do_not_depend_on_other_queries(all_measured):
    corpus, _, seen, _, _ = all_measured
    timed = [q for q in corpus.queries if q.is_timed]
    for query, together in zip(timed, seen.moment_predictions.own_video, strict=True):
        alone = CorpusPredictions(seen.model, replace(corpus, queries=[query]))
        np.testing.assert_array_equal(alone.moment_predictions.own_video[0], together)


def test_corpus_moments_match_nms_of_tvr():
    rng = np.random.default_rng(3)
    owner = rng.integers(0, 9, 500)
    start = rng.random(500) * 10
    spans = np.column_stack([start, start + 1 + 4 * rng.random(500)])
    scores = rng.integers(0, 60, 500) / 60  # with ties
    found = rank_moments(scores, owner, spans)
    order = np.argsort(-scores, kind="stable")
    wanted = suppressed(np.column_stack([owner[order], spans[order], scores[order]]), 0.5)
    assert len(found) == len(wanted) == 100
    np.testing.assert_array_equal(found[:, 3], wanted[:, 3])
    # Of equal scores the two list different videos first, which may leave another one out at the very end.
    last = found[-1, 3]
    assert {tuple(r) for r in found[found[:, 3] > last]} == {
        tuple(r) for r in wanted[wanted[:, 3] > last]
    }


def test_breakdown_by_query_type_of_tvr():
    corpus = rich_corpus()
    kinds = ("v", "vt", "v", "t", "v")
    queries = [
        replace(q, annotation=replace(q.annotation, category=kinds[q.video])) if q.is_timed else q
        for q in corpus.queries
    ]
    corpus = replace(corpus, queries=queries)
    seen = CorpusPredictions(model_of(corpus), corpus)
    tasks = by_task(compute_metrics(seen, None, None, ["corpus"]))
    timed = [q for q in queries if q.is_timed]
    wanted = corpus_moments(
        seen.corpus_moments, [q.video for q in timed], [q.spans for q in timed],
        types=[q.annotation.category for q in timed],
    )  # fmt: skip
    assert values(tasks["moment in the corpus"]) == wanted
    assert all(f.floors for f in tasks["moment in the corpus"].values())


def test_highlights_match_official_table(all_measured):
    corpus, _, seen, _, tasks = all_measured
    timed = [q for q in corpus.queries if q.is_timed]
    scores, ratings = [], []
    for q in timed:
        video, marks = corpus.videos[q.video], q.annotation.saliency
        count = int(video.duration_seconds / 0.5)
        # Two frames a second, so each clip of half a second is one frame.
        scores.append(
            np.array([unit(video.values[c]) @ unit(corpus.text_vector(q)) for c in range(count)])
        )
        ratings.append(clip_ratings(count, marks.clips, marks.scores))
    official = qvhighlights(
        seen.moment_predictions.own_video, [q.spans for q in timed], scores, ratings
    )["brief"]
    assert values(tasks["highlights"]) == pytest.approx(official)


def test_questions_match_official_tables(all_measured):
    corpus, _, seen, _, tasks = all_measured
    said = seen.answers["multiple choice"]
    right = [p == q.question.right for p, q in zip(said.predictions, said.examples, strict=True)]
    official = accuracy(right, [q.annotation.category for q in said.examples])
    found = values(tasks["multiple choice"])
    assert {
        name.removeprefix("accuracy").strip() or "all": v for name, v in found.items()
    } == official
    assert tasks["multiple choice"]["accuracy"].floors["chance"] == pytest.approx(100 / 3)
    assert tasks["multiple choice"]["accuracy"].blind is not None
    told = [
        unit(corpus.vector(q.choices[p]))
        for p, q in zip(said.predictions, said.examples, strict=True)
    ]
    spans = [
        plain_moments(corpus, text, q.video, 1)[0, :2]
        for text, q in zip(told, said.examples, strict=True)
    ]
    official = grounding(
        right, np.array(spans), [np.array(q.annotation.spans) for q in said.examples]
    )
    assert values(tasks["grounded answers"]) == official
    truths = [np.array(q.annotation.spans) for q in said.examples]
    whole = np.array([(0.0, corpus.videos[q.video].duration_seconds) for q in said.examples])
    floor = grounding(np.ones(5), whole, truths)
    found = {m: f.floors["whole video and chance"] for m, f in tasks["grounded answers"].items()}
    # A third of the answers are right by lot.
    assert found["mIoP"] == pytest.approx(floor["mIoP"], abs=0.051) and found[
        "Acc@QA"
    ] == pytest.approx(100 / 3)
    assert found["Acc@GQA"] == pytest.approx(floor["Acc@GQA"] / 3, abs=0.02)
    # Everywhere in the bank an answer is shown from 0.5 to 1.5 s.
    assert (
        tasks["grounded answers"]["mIoU"].floors["constant window and chance"]
        > 2 * floor["mIoU"] / 3
    )


def asked_of(kind, answers, categories):
    corpus = made_corpus((4,) * len(answers))
    chosen = [q for q in corpus.questions if q.question.kind == kind]
    make = {
        "count": lambda a: Question(count=a),
        "open": lambda a: Question(answers=(a,) if isinstance(a, str) else a),
    }[kind]
    return [
        replace(q, annotation=replace(q.annotation, question=make(a), category=c))
        for q, a, c in zip(chosen, answers, categories, strict=True)
    ]


def test_counts_by_hand():
    answered = HeadAnswers(
        "count", asked_of("count", (2, 3, 0), ("", "", "")), [2.4, 4.6, -3.0], []
    )
    found = {m: v.value for m, v in qa_protocol.questions(answered, answered.predictions).items()}
    assert found == pytest.approx({"MSE": (0 + 4 + 1) / 3, "accuracy": 100 / 3})
    assert found == pytest.approx(counting(answered.predictions, [2, 3, 0]))
    assert "best count" in qa_protocol.question_baselines(answered, None).missing
    trained = replace(made_corpus(), questions=tuple(asked_of("count", (3, 3, 4), ("", "", ""))))
    floors = qa_protocol.question_baselines(answered, trained)
    assert (
        floors.values["best count"] == pytest.approx(counting([3, 3, 3], [2, 3, 0]))
        and not floors.missing
    )


def test_open_answers_by_hand():
    categories = ("what", "who", "what", "who")
    asked = asked_of("open", ("dog", "Man", "cat", "woman"), categories)
    answered = HeadAnswers("open", asked, [["dog", "x"], ["man"], ["dog"], []], [])
    found = {m: v.value for m, v in qa_protocol.questions(answered, answered.predictions).items()}
    assert found == pytest.approx({"accuracy": 50.0, "accuracy what": 50.0, "accuracy who": 50.0})
    assert "no most frequent answer" in qa_protocol.question_baselines(answered, None).missing
    trained = asked_of(
        "open", ("dog", "dog", "dog", "man", "man"), ("what", "what", "what", "who", "who")
    )
    floors = qa_protocol.question_baselines(
        answered, replace(made_corpus(), questions=tuple(trained))
    )
    # Overall "dog" is said; of questions that begin with who, "man" is.
    assert floors.values == {
        "most frequent answer": pytest.approx(
            {"accuracy": 25.0, "accuracy what": 50.0, "accuracy who": 50.0}
        )
    }


def test_soft_accuracy_of_disagreeing_annotators():
    answered = HeadAnswers(
        "open", asked_of("open", (("a", "b"), ("a", "a")), ("", "")), [["a"], ["a"]], []
    )
    assert qa_protocol.questions(answered, answered.predictions)["accuracy"].value == 75.0


def test_corpus_moments_require_two_annotators():
    corpus = rich_corpus()
    votes = ((0.0, 1.0), (0.0, 1.0), (2.0, 3.0), (2.5, 3.0))
    queries = [
        replace(q, annotation=replace(q.annotation, votes=votes))
        for q in corpus.queries
        if q.is_timed
    ]
    predictions = [np.array([[q.video, 0.0, 1.0, 0.9]]) for q in queries[:1]]
    predictions += [np.array([[q.video, 2.5, 3.0, 0.9]]) for q in queries[1:]]
    found = moment_protocol.in_corpus(queries, predictions)
    # Only the first query's prediction is two annotators'; [2.5, 3] is one annotator's, and half of another's.
    assert found["0.7-r1"].value == 20.0 and found["0.5-r1"].value == 100.0


def test_rejects_unknown_and_impossible_groups():
    corpus = rich_corpus()
    seen = CorpusPredictions(zero_shot_model(corpus.dim, 1.0), corpus)
    with pytest.raises(
        UnknownNameError, match=r"unknown group retreival; available: retrieval, .*grounding"
    ):
        compute_metrics(seen, None, None, ["retreival"])
    with pytest.raises(MissingError, match="questions need a run"):
        compute_metrics(seen, None, None, ["questions", "paragraphs"])
    assert {f.task for f in compute_metrics(seen, None, None, ["retrieval"])} == {
        "text to video",
        "video to text",
    }
    assert set(GROUPS) == {
        "retrieval",
        "paragraphs",
        "moments",
        "partial",
        "corpus",
        "highlights",
        "questions",
        "grounding",
    }


def test_untrained_model_answers_by_retrieval_and_copies_fitted_state():
    import torch

    corpus = rich_corpus()
    trained = model_of(corpus, shake=1.0)
    trained.heads["choice_qa"].register_buffer("usual", torch.arange(3.0))
    model = untrained_model(corpus, trained, None, {})
    assert torch.equal(model.heads["choice_qa"].usual, torch.arange(3.0))
    said = CorpusPredictions(model, corpus).answers["multiple choice"]
    for q, choice in zip(said.examples, said.predictions, strict=True):
        frames = corpus.videos[q.video].values
        mean = unit(np.mean([unit(f) for f in frames], axis=0))
        assert choice == int(np.argmax([unit(corpus.vector(c)) @ mean for c in q.choices]))
    without = untrained_model(
        corpus, None, None, {"choice": "choice_qa", "open": "open_qa", "count": "counting"}
    )
    assert list(without.heads) == ["choice_qa"]


def test_lower_is_better_for_ranks_and_errors(all_measured):
    lower = {f.measure for of in all_measured[4].values() for f in of.values() if f.lower_is_better}
    assert lower == {"MedR", "MnR"} <= set(LOWER)
