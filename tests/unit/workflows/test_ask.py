"""A question is answered as it is when it is one of a file of annotations, whose answer is known."""

import json

import pytest
import torch

import vla
from support import naive_search
from vla.batches.corpus import join_question_answer
from vla.batches.corpus_reader import load_corpus, texts_to_cache
from vla.cache.store import active_cache
from vla.datasets._open import read_annotations
from vla.errors import MissingError, SpecMismatchError, UsageError
from vla.evaluation.head_answers import answer
from vla.metrics.question_answering import predicted_counts
from vla.training.checkpoint import load_model
from vla.workflows.ask import ask
from vla.workflows.encoder_choice import encoder_of

LONG = "which of these many things happens in the video that we are looking at today, and which does not happen at all?"
CHOICES = ("a door opens", "tea is poured", "a dog runs")
HEADS = "choice_qa,open_qa,counting"


def asked_of(video, split):
    every = (
        ("what happens?", {"choices": CHOICES, "right": 0}),
        (LONG, {"choices": CHOICES[::-1], "right": 1}),
        ("what colour is it?", {"answers": [{"v2": "red", "v3": "green"}.get(video, "red")]}),
        ("how many dogs are there?", {"count": 3 if video == "v2" else 2}),
    )
    return [
        {"query": q, "video": f"videos/{video}.mp4", "split": split, "question": told}
        for q, told in every
    ]


@pytest.fixture
def trained(toy_workspace):
    """The workspace with a run for each score, and its questions."""
    root = toy_workspace.root
    lines = [*asked_of("v2", "train"), *asked_of("v3", "train"), *asked_of("v4", "val")]
    (root / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, options in (("plain", {}), ("reads", {"score": "tokens"})):
        settings = {
            "heads": HEADS,
            "epochs": 3,
            "projector_options": {"width": 16, "heads": 2},
            **options,
        }
        vla.train(captions=root / "questions.jsonl", workspace=root, settings=settings, name=name)
    return toy_workspace


def wanted(place, name):
    """What the heads say, and their blind twins, by question and video, read by the way of annotations."""
    cache, model = active_cache(place.caches), load_model(place.runs / name)[0]
    annotations = list(read_annotations(place.root / "questions.jsonl"))
    cache.add_texts(texts_to_cache(annotations), encoder_of(cache, "cpu", "auto"))
    corpus = load_corpus(cache, annotations, tokens=model.compares_tokens)
    found = {}
    for said in answer(model, corpus).values():
        for q, predicted, unseen in zip(
            said.examples, said.predictions, said.blind_predictions, strict=True
        ):
            found[q.annotation.query, q.annotation.video] = said.task, predicted, unseen, q.question
    return found


def in_words(kind, predicted, question):
    if kind == "choice":
        return question.choices[predicted]
    return str(int(predicted_counts([predicted])[0])) if kind == "count" else predicted[0]


@pytest.mark.parametrize("name", ["plain", "reads"])
def test_the_answer_is_that_of_the_head(trained, name):
    known = wanted(trained, name)
    assert len(known) == 12
    for (query, video), (kind, predicted, unseen, question) in known.items():
        reply = ask(query, [video], choices=question.choices, run=name, workspace=trained.root)[0]
        assert (reply.video_id, reply.question, reply.kind, reply.run) == (video, query, kind, name)
        assert reply.answer == in_words(kind, predicted, question), query
        assert reply.unseen == in_words(kind, unseen, question)
        if kind == "count":
            assert reply.others == ((reply.answer, pytest.approx(predicted, rel=1e-3)),)
            continue
        assert reply.others[0][0] == reply.answer
        chances = [p for _, p in reply.others]
        assert chances == sorted(chances, reverse=True) and 0 < sum(chances) <= 1 + 1e-6
        assert {a for a, _ in reply.others} == set(question.choices or ("red", "green"))


@pytest.mark.parametrize("count", [1, 3])
def test_moments_are_where_question_and_answer_are_found(trained, count):
    """Those of the similarity curve of both as one text, found by trying every range of frames."""
    reply = ask(
        "what happens?",
        ["videos/v4.mp4"],
        choices=CHOICES,
        run="plain",
        moments=count,
        workspace=trained.root,
    )[0]
    cache, (model, _) = active_cache(trained.caches), load_model(trained.runs / "plain")
    model.projector.alpha.copy_(model.head_alpha)
    features = cache.frames("videos/v4.mp4")
    text = join_question_answer("what happens?", reply.answer)
    vector = model.align_texts(encoder_of(cache, "cpu", "auto").encode_text([text]).pooled)[0]
    cosines = model.align_frames(features) @ vector
    times = features.timestamps_seconds
    moments = naive_search.Curve(cosines, times, features.duration_seconds).moments(count)
    assert [m[:2] for m in reply.moments] == [(start, end) for start, end, _ in moments]
    for start, end, peak in reply.moments:
        inside = (times >= start) & (times < end)
        assert peak == times[inside][cosines[inside].argmax()]


def test_videos_are_named_by_name_or_path_or_all(trained, monkeypatch):
    root = trained.root
    every = ask("what happens?", choices=CHOICES, every=True, workspace=root)
    assert [r.video_id for r in every] == [f"videos/v{n}.mp4" for n in (2, 3, 4)]
    monkeypatch.chdir(root / "videos")
    assert ask("what  happens?", ["v3.mp4", root / "videos" / "v2.mp4"], choices=CHOICES) == [
        every[1],
        every[0],
    ]
    assert every[0].path == str(root / "videos" / "v2.mp4")
    assert json.loads(json.dumps(every[0].to_json()))["video"] == "videos/v2.mp4"


def test_what_cannot_be_answered_says_why(trained, tmp_path):
    root = trained.root
    for given, words in (
        ({"question": " \0"}, "at least one character"),
        ({"videos": ()}, "or ask about all of them"),
        ({"every": True}, "or ask about all of them"),
        ({"choices": ("one",)}, "one choice"),
        ({"choices": ("one", " ")}, "choice"),
    ):
        with pytest.raises(UsageError, match=words):
            ask(
                **{
                    "question": "what happens?",
                    "videos": ["videos/v2.mp4"],
                    "workspace": root,
                    **given,
                }
            )
    with pytest.raises(MissingError, match="never extracted"):
        ask("what happens?", ["nope.mp4"], workspace=root)
    with pytest.raises(MissingError):
        ask("what happens?", ["videos/v2.mp4"], run="nope", workspace=root)
    told = []
    vla.train(
        workspace=root,
        settings={"heads": "open_qa", "levels": "none", "epochs": 1},
        captions=root / "questions.jsonl",
        name="words",
    )
    reply = ask(
        "How many dogs are there?",
        ["videos/v2.mp4"],
        run="words",
        workspace=root,
        progress=told.append,
    )[0]
    assert reply.kind == "open" and any("no run has a head for counts" in p.message for p in told)
    with pytest.raises(MissingError, match="no head for this kind of question; its heads: open_qa"):
        ask("what happens?", ["videos/v2.mp4"], choices=CHOICES, run="words", workspace=root)


def test_runs_of_other_features_are_not_asked(trained):
    root = trained.root
    vla.extract(
        [root / "videos"],
        workspace=root,
        choice=vla.EncoderChoice(encoder="toy", model="24"),
        change_encoder=True,
        workers=1,
    )
    with pytest.raises(MissingError, match="no run has a head for this kind of question"):
        ask("what happens?", ["videos/v2.mp4"], choices=CHOICES, workspace=root)
    with pytest.raises(SpecMismatchError, match="run 'plain'"):
        ask("what happens?", ["videos/v2.mp4"], choices=CHOICES, run="plain", workspace=root)


def test_a_damaged_run_does_not_stop_another_from_answering(trained):
    (trained.runs / "reads" / "run.json").write_text("{")
    told = []
    reply = ask(
        "what happens?",
        ["videos/v2.mp4"],
        choices=CHOICES,
        workspace=trained.root,
        progress=told.append,
    )[0]
    assert reply.run == "plain" and any("reads" in p.message and p.level == "warning" for p in told)


def test_heads_see_the_projector_as_it_was_trained(trained, monkeypatch):
    given = {"choices": CHOICES, "every": True, "run": "plain", "workspace": trained.root}
    wanted = ask("what happens?", **given)

    def turned_down(folder):
        model, run = load_model(folder)
        model.projector.alpha.fill_(0.25)
        return model, run

    monkeypatch.setattr("vla.workflows.ask.load_model", turned_down)
    assert ask("what happens?", **given) == wanted


def test_heads_answer_at_their_alpha_and_blind_ones_at_1(trained, monkeypatch):
    """As in an evaluation: blind models are trained at alpha 1, whatever the gate of the run."""

    load = load_model

    def shaken(folder):
        model, run = load(folder)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        model.head_alpha.fill_(alpha)
        return model, run

    monkeypatch.setattr("vla.workflows.ask.load_model", shaken)
    monkeypatch.setitem(wanted.__globals__, "load_model", shaken)
    replies = {}
    for alpha in (0.0, 1.0):
        for (query, video), (kind, predicted, unseen, question) in wanted(trained, "plain").items():
            reply = ask(
                query, [video], choices=question.choices, run="plain", workspace=trained.root
            )[0]
            assert reply.answer == in_words(kind, predicted, question), (alpha, query)
            assert reply.unseen == in_words(kind, unseen, question), (alpha, query)
            values = [value for _, value in reply.others]
            replies.setdefault((query, video), []).append((reply.unseen, values))
    assert any(first[1] != second[1] for first, second in replies.values())
    assert all(first[0] == second[0] for first, second in replies.values())
