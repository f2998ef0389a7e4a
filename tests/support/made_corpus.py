"""Small corpora of random features, with timed and untimed captions and questions of all kinds."""

from dataclasses import replace

import numpy as np

from vla.batches.corpus import Corpus, Query, QuestionExample, Tokens
from vla.datasets.base import Annotation, Question
from vla.features import FrameFeatures

DIM = 8
COLORS = ("red", "green", "blue")


def with_tokens(corpus, seed=0, longest=5):
    """Return the corpus with up to `longest` random tokens of each text."""
    rng = np.random.default_rng([seed, 1])
    ends = np.cumsum(rng.integers(0, longest + 1, len(corpus.vectors))).tolist()
    row_ranges = dict(zip(corpus.vectors, zip([0, *ends[:-1]], ends, strict=True), strict=True))
    values = rng.standard_normal((ends[-1], corpus.dim)).astype(np.float16)
    return replace(corpus, tokens=Tokens(values, row_ranges))


def made_corpus(lengths=(4, 2, 3, 7), seed=0, dim=DIM):
    """Return a corpus of videos with `lengths` frames at 2 frames per second.

    Each video has two captions, one of them timed, and three questions.
    """
    rng = np.random.default_rng(seed)
    vectors = {}

    def add_text(text):
        vectors.setdefault(text, rng.standard_normal(dim).astype(np.float32))
        return (text,)

    videos, queries, questions = [], [], []
    for i, n in enumerate(lengths):
        name, seconds = f"v{i}", n / 2
        videos.append(
            FrameFeatures(
                name, rng.standard_normal((n, dim)).astype(np.float16), np.arange(n) / 2, seconds
            )
        )
        whole = f"caption of {i}"
        queries.append(
            Query(
                whole,
                add_text(whole),
                add_text(whole),
                i,
                np.zeros((0, 2)),
                Annotation(f"c{i}", whole, name),
            )
        )
        part, span = f"moment of {i}", (0.0, max(0.5, seconds / 2))
        timed = Annotation(f"m{i}", part, name, (span,))
        queries.append(Query(part, add_text(part), add_text(part), i, np.array([span]), timed))
        right = i % 3
        examples = (
            (
                "What happens?",
                Question(choices=("it moves", "it stays", f"it ends {i}"), right=right),
            ),
            ("Which colour?", Question(answers=(COLORS[i % 3],))),
            ("How many?", Question(count=1 + i)),
        )
        for k, (text, question) in enumerate(examples):
            choices = tuple(add_text(f"{text} {c}") for c in question.choices)
            choices_only = tuple(add_text(c) for c in question.choices)
            annotation = Annotation(f"q{i}.{k}", text, name, question=question)
            questions.append(QuestionExample(annotation, add_text(text), choices, choices_only, i))
    answers = {c: add_text(c) for c in COLORS}
    return Corpus(videos, queries, vectors, tuple(questions), answers)
