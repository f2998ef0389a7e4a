"""Question answering: how often the answer is the answer.

WUPS (open-ended NExT-QA) is not here: it needs WordNet, which has to be downloaded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

COUNTS = (1, 10)
"""TGIF-QA: a count is from 1 to 10."""

NEXTQA = {"CW": "C", "CH": "C", "TN": "T", "TC": "T", "DC": "D", "DL": "D", "DO": "D"}
"""The group of each type of question."""
# What happens before is counted with what happens next.
NEXTQA_MERGED = {"TP": "TN"}


def matches(predicted: Sequence[object], answers: Sequence[object]) -> np.ndarray:
    """`(Q,)` bool: whether each prediction is the answer, letter for letter.

    Answers are numbers of choices (NExT-QA, TGIF-QA action and transition) or strings, as the dataset has them:
    MSRVTT-QA, MSVD-QA, TGIF-QA frame and ActivityNet-QA compare lower-cased strings without any other care, and a test
    answer that is not in the vocabulary is lost. See `known`.

    Raises:
        ShapeError: not as many predictions as answers.
        UsageError: no questions, or numbers compared with strings.
    """
    if len(predicted) != len(answers):
        raise ShapeError(f"{len(predicted)} questions have predictions but {len(answers)} have answers")
    if not len(answers):
        raise UsageError("there are no questions to evaluate with")
    if isinstance(predicted[0], str) != isinstance(answers[0], str):
        raise UsageError(
            f"prediction {predicted[0]!r} and answer {answers[0]!r} must both be strings or both be numbers"
        )
    return np.array([p == a for p, a in zip(predicted, answers, strict=True)])


def agreement(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """`(Q,)` 0, 1/2 or 1: half for each annotator who gave the predicted answer, up to two (iVQA, Just Ask).

    Args:
        predicted: one answer for each question.
        answers: those of all annotators, for each question.

    Raises:
        ShapeError: not as many predictions as questions.
        UsageError: no questions, or one without answers.
    """
    if len(predicted) != len(answers):
        raise ShapeError(f"{len(predicted)} questions have predictions but {len(answers)} have answers")
    if not len(answers) or not all(len(given) for given in answers):
        raise UsageError(f"{sum(not len(given) for given in answers)} of {len(answers)} questions have no answer")
    return np.array([min(list(given).count(p) / 2, 1.0) for p, given in zip(predicted, answers, strict=True)])


def known(answers: Sequence[str], vocabulary: Collection[str]) -> np.ndarray:
    """`(Q,)` bool: whether a model that picks from `vocabulary` can be right; the mean is the best accuracy it can have."""
    words = set(vocabulary)
    return np.array([answer in words for answer in answers], dtype=bool)


def accuracy_by_type(right: ArrayLike, types: Sequence[str]) -> dict[str, float]:
    """Accuracy for every type of question, by name, and `all`, which counts every question once; percent.

    Args:
        right: `(Q,)` of `matches` or `agreement`.
        types: of every question.

    Raises:
        ShapeError: not one type for each question.
        UsageError: no questions, a value that is not from 0 to 1, or a type named `all`.
    """
    values, kinds = _checked(right), np.array(list(types), dtype=str)
    if kinds.shape != values.shape:
        raise ShapeError(f"{len(values)} questions need a type each, not {len(kinds)}")
    if "all" in kinds:
        raise UsageError("no type can be named 'all': that is the name of the accuracy over all types")
    found = {str(kind): 100 * float(values[kinds == kind].mean()) for kind in np.unique(kinds)}
    return {**found, "all": 100 * float(values.mean())}


def nextqa_accuracy(right: ArrayLike, types: Sequence[str]) -> dict[str, float]:
    """NExT-QA's table: accuracy by type, by group `C`, `T` and `D`, and `all`, rounded to the two digits that it prints.

    Causal (`CW` why, `CH` how), temporal (`TN` before and after: types TN and TP; `TC` when) and descriptive (`DC` count,
    `DL` where, `DO` other). Source: Xiao et al., CVPR 2021; doc-doc/NExT-QA, `eval_mc.py`. A type without questions is
    left out. Arguments and errors as `accuracy_by_type`, and UsageError for an unknown type.
    """
    kinds = [NEXTQA_MERGED.get(kind, kind) for kind in types]
    unknown = sorted(set(kinds) - set(NEXTQA))
    if unknown:
        raise UsageError(
            f"NExT-QA has no question of type {unknown[0]!r}: its types are {', '.join([*NEXTQA, *NEXTQA_MERGED])}"
        )
    by_type = accuracy_by_type(right, kinds)
    by_group = accuracy_by_type(right, [NEXTQA[kind] for kind in kinds])
    return {name: round(value, 2) for name, value in {**by_type, **by_group}.items()}


def count_metrics(predicted: ArrayLike, answers: ArrayLike) -> dict[str, float]:
    """TGIF-QA's repetition counts: `MSE` and `accuracy` (percent) after rounding and clipping to 1 to 10.

    Halves round to the even number, as the official code's do (YunseokJANG/tgif-qa, `count_base.py`). Answers stay as
    they are: some are 0.

    Args:
        predicted: `(Q,)` numbers.
        answers: `(Q,)` whole numbers.

    Raises:
        ShapeError: not as many predictions as answers.
        UsageError: no questions, or a number that is not finite.
    """
    guessed, true = np.asarray(predicted, dtype=np.float64), np.asarray(answers, dtype=np.float64)
    if guessed.ndim != 1 or guessed.shape != true.shape:
        raise ShapeError(f"predictions {guessed.shape} and answers {true.shape} must be one row of numbers each")
    if not len(true) or not (np.isfinite(guessed) & np.isfinite(true)).all():
        raise UsageError(f"counts must be finite numbers, at least one; got {len(true)}")
    told = told_counts(guessed)
    return {"MSE": float(((told - true) ** 2).mean()), "accuracy": 100 * float((told == true).mean())}


def told_counts(predicted: ArrayLike) -> np.ndarray:
    """`(Q,)` whole numbers from 1 to 10: what `count_metrics` takes the predicted numbers for."""
    found: np.ndarray = np.clip(np.rint(np.asarray(predicted, dtype=np.float64)), *COUNTS)
    return found


def _checked(right: ArrayLike) -> np.ndarray:
    values = np.asarray(right, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"accuracy is of one value for each question, not of an array of shape {values.shape}")
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"accuracy is of values from 0 to 1, at least one; got {len(values)}")
    return values
