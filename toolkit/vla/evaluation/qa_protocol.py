"""Questions as the benchmarks ask them: accuracy by type, counts, and whether the answer was found where it is shown."""

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
from vla.metrics.question_answering import NEXTQA, NEXTQA_MERGED, predicted_counts

GROUNDED = "grounded answers"
NO_TRAINING = "no most frequent answer: the annotations that were trained on are not known"
NO_SPANS = "no constant window: no spans of answers are known that were trained on"


def questions(answered: HeadAnswers, predicted: Sequence[Any]) -> ScoreTable:
    """`accuracy` of all and `accuracy TYPE` of each type of question; of counts `MSE` and `accuracy`.

    Types are the annotations' categories, see `accuracy_by_type`.
    """
    videos = np.array([q.video for q in answered.asked], np.int64)
    if answered.task == "count":
        told = predicted_counts([float(p) for p in predicted])
        true = np.array([q.question.count for q in answered.asked], np.float64)
        return {
            "MSE": PerQueryScores((told - true) ** 2, videos),
            "accuracy": PerQueryScores(100.0 * (told == true), videos),
        }
    return accuracy_by_type(_categories(answered.asked), 100 * correctness(answered, predicted), videos)


def accuracy_by_type(
    categories: Sequence[str], by_query: np.ndarray, videos: np.ndarray, rounded: bool = True
) -> ScoreTable:
    """Compute `accuracy` of all questions, which counts every question once, and `accuracy TYPE` of each type.

    Where all types are NExT-QA's they are merged and grouped as its evaluator does it: causal `C` (`CW` why, `CH` how),
    temporal `T` (`TN` before and after: types TN and TP; `TC` when) and descriptive `D` (`DC` count, `DL` where, `DO`
    other). Source: Xiao et al., CVPR 2021; doc-doc/NExT-QA, `eval_mc.py`. A type without questions is left out.

    Args:
        categories: type of each question; empty where it has none.
        by_query: `(Q,)` percent, how right each answer is.
        videos: `(Q,)` row of each question's video.
        rounded: to the two digits that NExT-QA's evaluator prints, if the types are its.
    """
    kinds = [NEXTQA_MERGED.get(kind, kind) for kind in categories]
    is_nextqa = set(kinds) <= set(NEXTQA)
    if not is_nextqa:
        kinds = list(categories)
    digits = 2 if is_nextqa and rounded else None
    found = {"accuracy": PerQueryScores(by_query, videos, digits=digits)}
    groups = [(kind, [kind]) for kind in sorted({*kinds} - {""})] if any(kinds) else []
    if is_nextqa:
        groups += [(group, [k for k, g in NEXTQA.items() if g == group]) for group in dict.fromkeys(NEXTQA.values())]
    for name, members in groups:
        of_type = np.array([kind in members for kind in kinds])
        if of_type.any():
            found[f"accuracy {name}"] = PerQueryScores(by_query[of_type], videos[of_type], digits=digits)
    return found


def question_baselines(answered: HeadAnswers, trained_on: Corpus | None) -> BaselineScores:
    """Chance among choices, the most frequent answer (of each type, for that type), or the best single count."""
    asked = answered.asked
    if answered.task == "choice":
        chance = accuracy_by_type(_categories(asked), _chances(asked), np.arange(len(asked)), rounded=False)
        return BaselineScores({"chance": _plain(chance)})
    known = [] if trained_on is None else list(trained_on.questions)
    if answered.task == "count":
        counts = [q.question.count for q in known if q.question.count is not None]
        if not counts:
            return BaselineScores({}, NO_TRAINING.replace("most frequent answer", "best count"))
        return BaselineScores({"best count": _plain(questions(answered, [best_count(counts)] * len(asked)))})
    if not any(q.question.answers for q in known):
        return BaselineScores({}, NO_TRAINING)
    values = _plain(questions(answered, [[_usual(known)]] * len(asked)))
    for kind in {q.annotation.category for q in asked}:
        own = [[_usual([q for q in known if q.annotation.category == kind], known)]] * len(asked)
        name = f"accuracy {kind}"
        values |= {k: v for k, v in _plain(questions(answered, own)).items() if k == name}
    return BaselineScores({"most frequent answer": values})


def with_evidence_spans(answered: HeadAnswers) -> list[QuestionExample]:
    """Those questions whose answer some span shows."""
    return [q for q in answered.asked if q.annotation.spans] if answered.task == "choice" else []


def evidence(seen: CorpusPredictions, answered: HeadAnswers) -> np.ndarray:
    """`(Q, 2)` seconds: for each of `with_evidence_spans` the best segment for the question with the choice that was taken."""
    asked = with_evidence_spans(answered)
    taken = {id(q): int(choice) for q, choice in zip(answered.asked, answered.predicted, strict=True)}
    texts = seen.aligned([q.choices[taken[id(q)]] for q in asked])
    return seen.moment_for(texts, [q.video for q in asked])


def grounded_accuracy(seen: CorpusPredictions, answered: HeadAnswers) -> ScoreTable:
    """NExT-GQA's table of `with_evidence_spans`, in percent with the one digit that its evaluator prints."""
    is_shown = np.array([bool(q.annotation.spans) for q in answered.asked])
    correct = correctness(answered, answered.predicted)[is_shown]
    return _grounding(with_evidence_spans(answered), evidence(seen, answered), correct, digits=1)


def grounded_floors(asked: Sequence[QuestionExample], corpus: Corpus, trained_on: Corpus | None) -> BaselineScores:
    """An answer by lot, with the whole video for evidence, or the part of it that fits what was trained on best."""
    lengths = _lengths(asked, corpus)
    windows = {"whole video": whole_video(lengths)}
    known = [q for q in trained_on.questions if q.annotation.spans] if trained_on else []
    if trained_on is not None and known:
        truths = [np.array(q.annotation.spans, np.float64) for q in known]
        windows["constant window"] = fit_constant_window(truths, _lengths(known, trained_on)).predict(lengths)
    values = {
        f"{name} and chance": _plain(
            _grounding(asked, np.concatenate(found)[:, :2], _chances(asked) / 100, digits=None)
        )
        for name, found in windows.items()
    }
    return BaselineScores(values, "" if known else NO_SPANS)


def _grounding(
    asked: Sequence[QuestionExample], spans: np.ndarray, correct: np.ndarray, digits: int | None
) -> ScoreTable:
    """correct: `(Q,)` the probability that each answer is right."""
    shares = grounding_scores(correct, spans, [np.array(q.annotation.spans, np.float64) for q in asked])
    videos = np.array([q.video for q in asked], np.int64)
    return {name: PerQueryScores(100.0 * v, videos, digits=digits) for name, v in shares.items()}


def _categories(asked: Sequence[QuestionExample]) -> list[str]:
    return [q.annotation.category for q in asked]


def _lengths(asked: Sequence[QuestionExample], corpus: Corpus) -> np.ndarray:
    # A video of one frame may say that it takes no time.
    return np.array([max(corpus.videos[q.video].duration_seconds, 1e-3) for q in asked])


def _chances(asked: Sequence[QuestionExample]) -> np.ndarray:
    """`(Q,)` percent: of being right by lot."""
    return np.array([100 / len(q.question.choices) for q in asked])


def _usual(some: Sequence[QuestionExample], others: Sequence[QuestionExample] = ()) -> str:
    """The answer that is most often the first one to `some`; to `others` where none of those has any."""
    answers = [q.question.answers[0].lower() for q in some if q.question.answers]
    return most_frequent(answers) if answers else _usual(others)


def _plain(measures: ScoreTable) -> dict[str, float]:
    return {name: values.value for name, values in measures.items()}
