"""Question answering protocols: accuracy by type, counts, and grounded accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vla.batches.corpus import Corpus, QuestionExample
from vla.evaluation.head_answers import HeadAnswers, correctness
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.results import BaselineScores, PerQueryScores, ScoreTable
from vla.metrics.baselines import best_count, most_frequent
from vla.metrics.grounding import grounding_scores
from vla.metrics.moment_baselines import fit_constant_window, whole_video
from vla.metrics.question_answering import NEXTQA, NEXTQA_ALIASES, predicted_counts

GROUNDED_QA = "grounded answers"
NO_TRAINING = "no most frequent answer: the training annotations are unknown"
NO_SPANS = "no constant window: no training annotations with evidence spans"


def questions(answers: HeadAnswers, predictions: Sequence[Any]) -> ScoreTable:
    """Compute `accuracy`, and `accuracy TYPE` by question type; for counts `MSE` and `accuracy`.

    Types are the annotations' categories, see `accuracy_by_type`.
    """
    videos = np.array([q.video for q in answers.examples], np.int64)
    if answers.task == "count":
        counts = predicted_counts([float(p) for p in predictions])
        true = np.array([q.question.count for q in answers.examples], np.float64)
        return {
            "MSE": PerQueryScores((counts - true) ** 2, videos),
            "accuracy": PerQueryScores(100.0 * (counts == true), videos),
        }
    return accuracy_by_type(
        _categories(answers.examples), 100 * correctness(answers, predictions), videos
    )


def accuracy_by_type(
    categories: Sequence[str], by_query: np.ndarray, videos: np.ndarray, rounded: bool = True
) -> ScoreTable:
    """Compute `accuracy` over all questions, and `accuracy TYPE` of each type.

    If all types are NExT-QA's, they are merged and grouped as in its evaluator: causal `C` (`CW`
    why, `CH` how), temporal `T` (`TN` before and after: types TN and TP; `TC` when) and descriptive
    `D` (`DC` count, `DL` where, `DO` other). Source: Xiao et al., CVPR 2021; doc-doc/NExT-QA,
    `eval_mc.py`. A type without questions is omitted.

    Args:
        categories: type of each question; empty without one.
        by_query: `(Q,)` correctness of each answer in percent.
        videos: `(Q,)` row of each question's video.
        rounded: round to two digits as NExT-QA's evaluator does, if the types are its.
    """
    kinds = [NEXTQA_ALIASES.get(kind, kind) for kind in categories]
    is_nextqa = set(kinds) <= set(NEXTQA)
    if not is_nextqa:
        kinds = list(categories)
    digits = 2 if is_nextqa and rounded else None
    table = {"accuracy": PerQueryScores(by_query, videos, digits=digits)}
    groups = [(kind, [kind]) for kind in sorted({*kinds} - {""})] if any(kinds) else []
    if is_nextqa:
        groups += [
            (group, [k for k, g in NEXTQA.items() if g == group])
            for group in dict.fromkeys(NEXTQA.values())
        ]
    for name, members in groups:
        of_type = np.array([kind in members for kind in kinds])
        if of_type.any():
            table[f"accuracy {name}"] = PerQueryScores(
                by_query[of_type], videos[of_type], digits=digits
            )
    return table


def question_baselines(answers: HeadAnswers, trained_on: Corpus | None) -> BaselineScores:
    """Score chance among choices, the most frequent answer (by type), or the best single count."""
    examples = answers.examples
    if answers.task == "choice":
        chance = accuracy_by_type(
            _categories(examples), _chances(examples), np.arange(len(examples)), rounded=False
        )
        return BaselineScores({"chance": _values(chance)})
    training_examples = [] if trained_on is None else list(trained_on.questions)
    if answers.task == "count":
        counts = [q.question.count for q in training_examples if q.question.count is not None]
        if not counts:
            return BaselineScores({}, NO_TRAINING.replace("most frequent answer", "best count"))
        return BaselineScores(
            {"best count": _values(questions(answers, [best_count(counts)] * len(examples)))}
        )
    if not any(q.question.answers for q in training_examples):
        return BaselineScores({}, NO_TRAINING)
    values = _values(questions(answers, [[_most_frequent(training_examples)]] * len(examples)))
    for category in {q.annotation.category for q in examples}:
        type_answers = [
            [
                _most_frequent(
                    [q for q in training_examples if q.annotation.category == category],
                    training_examples,
                )
            ]
        ] * len(examples)
        name = f"accuracy {category}"
        values |= {k: v for k, v in _values(questions(answers, type_answers)).items() if k == name}
    return BaselineScores({"most frequent answer": values})


def with_evidence_spans(answers: HeadAnswers) -> list[QuestionExample]:
    """Return the questions whose answer has evidence spans."""
    return [q for q in answers.examples if q.annotation.spans] if answers.task == "choice" else []


def evidence(predictions: CorpusPredictions, answers: HeadAnswers) -> np.ndarray:
    """Return `(Q, 2)` seconds: the best moment for each question with its predicted choice.

    The questions are those of `with_evidence_spans`.
    """
    examples = with_evidence_spans(answers)
    choices = {
        id(q): int(choice) for q, choice in zip(answers.examples, answers.predictions, strict=True)
    }
    texts = predictions.text_vectors([q.choices[choices[id(q)]] for q in examples])
    moments = predictions.moments_in(texts, [q.video for q in examples], 1)
    return np.concatenate(moments)[:, :2]


def grounded_accuracy(predictions: CorpusPredictions, answers: HeadAnswers) -> ScoreTable:
    """Compute NExT-GQA's table on `with_evidence_spans`, in percent with one digit, as printed."""
    has_evidence = np.array([bool(q.annotation.spans) for q in answers.examples])
    correct = correctness(answers, answers.predictions)[has_evidence]
    return _grounding(
        with_evidence_spans(answers), evidence(predictions, answers), correct, digits=1
    )


def grounded_baselines(
    examples: Sequence[QuestionExample], corpus: Corpus, trained_on: Corpus | None
) -> BaselineScores:
    """Score a random choice with the whole video, or the best constant window, as its evidence."""
    lengths = _durations(examples, corpus)
    windows = {"whole video": whole_video(lengths)}
    training_examples = (
        [q for q in trained_on.questions if q.annotation.spans] if trained_on else []
    )
    if trained_on is not None and training_examples:
        truths = [np.array(q.annotation.spans, np.float64) for q in training_examples]
        windows["constant window"] = fit_constant_window(
            truths, _durations(training_examples, trained_on)
        ).predict(lengths)
    values = {
        f"{name} and chance": _values(
            _grounding(
                examples, np.concatenate(spans)[:, :2], _chances(examples) / 100, digits=None
            )
        )
        for name, spans in windows.items()
    }
    return BaselineScores(values, "" if training_examples else NO_SPANS)


def _grounding(
    examples: Sequence[QuestionExample], spans: np.ndarray, correct: np.ndarray, digits: int | None
) -> ScoreTable:
    """Score evidence spans.

    Args:
        examples: questions with evidence spans.
        spans: `(Q, 2)` seconds.
        correct: `(Q,)` probability that each answer is correct.
        digits: as in `PerQueryScores`.
    """
    shares = grounding_scores(
        correct, spans, [np.array(q.annotation.spans, np.float64) for q in examples]
    )
    videos = np.array([q.video for q in examples], np.int64)
    return {name: PerQueryScores(100.0 * v, videos, digits=digits) for name, v in shares.items()}


def _categories(examples: Sequence[QuestionExample]) -> list[str]:
    return [q.annotation.category for q in examples]


def _durations(examples: Sequence[QuestionExample], corpus: Corpus) -> np.ndarray:
    # The duration of a video of one frame may be 0.
    return np.array([max(corpus.videos[q.video].duration_seconds, 1e-3) for q in examples])


def _chances(examples: Sequence[QuestionExample]) -> np.ndarray:
    """Return `(Q,)` percent: the probability of a correct random choice."""
    return np.array([100 / len(q.question.choices) for q in examples])


def _most_frequent(
    examples: Sequence[QuestionExample], fallback: Sequence[QuestionExample] = ()
) -> str:
    """Return the most frequent first answer to `examples`, or to `fallback` if they have none."""
    answers = [q.question.answers[0].lower() for q in examples if q.question.answers]
    return most_frequent(answers) if answers else _most_frequent(fallback)


def _values(measures: ScoreTable) -> dict[str, float]:
    return {name: values.value for name, values in measures.items()}
