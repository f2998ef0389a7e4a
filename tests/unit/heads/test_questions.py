"""Question answering heads: untrained predictions, and learning from video content."""

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import DIM, made_corpus
from vla.batches.collate import build_batch
from vla.batches.corpus import Corpus, QuestionExample
from vla.datasets.base import Annotation, Question
from vla.errors import MissingError, UsageError
from vla.features import FrameFeatures
from vla.heads import registry
from vla.heads.counting import Head as Counting
from vla.heads.open_qa import Head as OpenQa
from vla.model import AlignmentModel, ModelConfig

WIDE = 16


def built(name, corpus, dim=DIM, **options):
    torch.manual_seed(0)
    planned = registry.get(name).resolve_options(corpus, options)
    model = AlignmentModel(ModelConfig(dim, "identity", heads={name: planned}))
    for head in (*model.heads.values(), *model.blind.values()):
        head.fit(corpus)
    return model.eval()


def batch_of(corpus):
    return build_batch(corpus, np.arange(len(corpus.videos)), corpus.queries, corpus.questions)


def said(model, corpus, name):
    batch = batch_of(corpus)
    with torch.no_grad():
        aligned = model(batch)
        head, twin = model.heads[name], model.blind[name]
        return head.decode(head(aligned, batch), batch), twin.decode(
            twin(aligned.blind(), batch), batch
        )


def trained(name, corpus, steps=60, **options):
    model = built(name, corpus, WIDE, **options)
    batch = batch_of(corpus)
    optimizer = torch.optim.Adam([*model.heads.parameters(), *model.blind.parameters()], 0.003)
    for step in range(steps):
        torch.manual_seed(step)
        model.train()
        optimizer.zero_grad()
        sum(model.head_losses(model(batch), batch).values()).backward()
        optimizer.step()
    return model.eval()


def staged(seed, count):
    """Videos of 2 to 4 things out of 6 that are shown one after the other for a second or two, asked about in three ways."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99).standard_normal((40, WIDE)).astype(np.float32)
    names = ["cat", "dog", "cow", "hen", "pig", "bee"]
    told = [
        *names,
        "First?",
        "Last?",
        *(f"{q} {n}" for q in ("First?", "Last?") for n in names),
        "How many?",
    ]
    vectors = dict(zip(told, fixed, strict=False))
    videos, questions = [], []
    for i in range(count):
        shown = rng.permutation(6)[: rng.integers(2, 5)]
        rows = np.concatenate(
            [np.repeat(vectors[names[k]][None], rng.integers(2, 5), 0) for k in shown]
        )
        rows = rows + 0.3 * rng.standard_normal(rows.shape)
        videos.append(
            FrameFeatures(f"v{i}", rows.astype(np.float16), np.arange(len(rows)) / 2, len(rows) / 2)
        )
        order = [names[k] for k in shown]
        choices = tuple(sorted(order))
        for text, right in (("First?", order[0]), ("Last?", order[-1])):
            question = Question(choices=choices, right=choices.index(right))
            stated = tuple((f"{text} {c}",) for c in choices)
            asked = Annotation(f"{i}{text}", text, f"v{i}", question=question)
            questions.append(
                QuestionExample(asked, (text,), stated, tuple((c,) for c in choices), i)
            )
        for text, question in (
            ("Last?", Question(answers=(order[-1],))),
            ("How many?", Question(count=len(order))),
        ):
            asked = Annotation(f"{i}{text}{question.kind}", text, f"v{i}", question=question)
            questions.append(QuestionExample(asked, (text,), (), (), i))
    return Corpus(videos, [], vectors, tuple(questions), {n: (n,) for n in names})


def right(corpus, predicted, kind):
    questions = [q.question for q in corpus.questions if q.question.kind == kind]
    if kind == "choice":
        return np.mean([p == q.right for p, q in zip(predicted, questions, strict=True)])
    return np.mean([p[0] == q.answers[0] for p, q in zip(predicted, questions, strict=True)])


def test_choices_are_distinguished_by_time():
    known, new = staged(0, 80), staged(1, 60)
    seeing, blind = said(trained("choice_qa", known, steps=40, width=64), new, "choice_qa")
    assert right(new, seeing, "choice") > 0.85
    assert right(new, blind, "choice") < 0.6


def test_open_answers_attend_to_the_moment():
    known, new = staged(0, 120), staged(1, 60)
    seeing, blind = said(trained("open_qa", known, width=64), new, "open_qa")
    assert right(new, seeing, "open") > 0.6
    assert right(new, blind, "open") < 0.4


def test_repeated_events_raise_counts():
    known, new = staged(0, 80), staged(1, 60)
    counts = np.array(
        [q.question.count for q in new.questions if q.question.count is not None], float
    )
    seeing, blind = said(trained("counting", known, steps=120), new, "counting")
    variance = ((counts - counts.mean()) ** 2).mean()
    assert ((np.array(seeing) - counts) ** 2).mean() < 0.4 * variance
    assert ((np.array(blind) - counts) ** 2).mean() > 0.9 * variance


def test_an_untrained_count_is_the_mean():
    corpus = made_corpus()
    model, batch = built("counting", corpus), batch_of(corpus)
    head = model.heads["counting"]
    assert said(model, corpus, "counting")[0] == pytest.approx([2.5] * 4)
    # The squared errors 2.25, 0.25, 0.25, 2.25 are the variance.
    assert float(head.loss(model(batch), batch).detach()) == pytest.approx(1.0)


def test_equal_counts_have_finite_loss():
    corpus = made_corpus()
    ones = tuple(
        replace(q, annotation=replace(q.annotation, question=Question(count=1)))
        if q.question.kind == "count"
        else q
        for q in corpus.questions
    )
    corpus = replace(corpus, questions=ones)
    model, batch = built("counting", corpus), batch_of(corpus)
    assert float(model.heads["counting"].loss(model(batch), batch).detach()) == 0.0


def test_untrained_open_answers_are_retrieval():
    corpus = made_corpus()
    model, batch = built("open_qa", corpus), batch_of(corpus)
    head = model.heads["open_qa"]
    with torch.no_grad():
        scores = head(model(batch), batch)
    for row, video in zip(scores, corpus.videos, strict=True):
        frames = video.values.astype(np.float64)
        mean = (frames / np.linalg.norm(frames, axis=1, keepdims=True)).mean(0)
        for score, answer in zip(row, head.answers, strict=True):
            text = corpus.vectors[answer].astype(np.float64)
            cosine = text @ mean / np.linalg.norm(text) / np.linalg.norm(mean)
            assert float(score) == pytest.approx(20.0 * cosine, abs=1e-3)


def answered(*answers):
    """The made corpus with these answers to its open questions."""
    corpus = made_corpus()
    given = iter(answers)
    questions = tuple(
        replace(q, annotation=replace(q.annotation, question=Question(answers=next(given))))
        for q in corpus.questions
        if q.question.kind == "open"
    )
    vectors = {
        w: np.random.default_rng(zlib.crc32(w.encode())).standard_normal(DIM).astype(np.float32)
        for a in answers
        for w in a
    }
    return replace(
        corpus,
        questions=questions,
        vectors=corpus.vectors | vectors,
        answers={w: (w,) for a in answers for w in a},
    )


def test_vocabulary_is_most_frequent_answers():
    corpus = answered(("Blue", "blue"), ("blue", "red"), ("red",), ("pale green",))
    assert OpenQa.resolve_options(corpus, {})["answers"] == ["blue", "red", "pale green"]
    assert OpenQa.resolve_options(corpus, {"least": 2})["answers"] == ["blue", "red"]
    assert OpenQa.resolve_options(corpus, {"most": 1})["answers"] == ["blue"]
    with pytest.raises(MissingError, match="5 times"):
        OpenQa.resolve_options(corpus, {"least": 5})
    with pytest.raises(UsageError, match="answers"):
        OpenQa(DIM)


def test_first_spelling_defines_answer_vector():
    corpus = answered(("Blue",), ("blue",), ("blue",), ("red",))
    head = built("open_qa", corpus).heads["open_qa"]
    expected = corpus.vectors["Blue"] / np.linalg.norm(corpus.vectors["Blue"])
    np.testing.assert_allclose(head.vectors[0].numpy(), expected, atol=1e-6)


def test_several_answers_share_target():
    corpus = answered(("blue", "blue", "red"), ("never seen",), ("red",), ("blue",))
    model = built("open_qa", corpus, answers=["blue", "red"])
    batch, head = batch_of(corpus), model.heads["open_qa"]
    with torch.no_grad():
        aligned = model(batch)
        scores = head(aligned, batch).double().numpy()
        loss = float(head.loss(aligned, batch))
    shares = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    each = [-(2 * shares[0, 0] + shares[0, 1]) / 3, -shares[2, 1], -shares[3, 0]]
    assert math.isclose(loss, np.mean(each), rel_tol=1e-5)
    # Where no right answer can be predicted nothing is learned.
    alone = replace(corpus, questions=corpus.questions[1:2])
    one = batch_of(alone)
    assert head.loss(model(one), one) is None


def test_decodes_ten_best_answers():
    corpus = answered(
        *((f"answer {3 * i}", f"answer {3 * i + 1}", f"answer {3 * i + 2}") for i in range(4))
    )
    model = built("open_qa", corpus)
    batch, head = batch_of(corpus), model.heads["open_qa"]
    with torch.no_grad():
        scores = head(model(batch), batch)
    for row, best in zip(scores.tolist(), head.decode(scores, batch), strict=True):
        by_hand = [head.answers[i] for i in sorted(range(12), key=lambda i: -row[i])]
        assert best == by_hand[:10]


def test_counting_resolves_no_options():
    assert Counting.resolve_options(made_corpus(), {"width": 64}) == {"width": 64}
