"""Question answering: how often the answer is the answer.

WUPS (open-ended NExT-QA) is not here: it needs WordNet, which has to be downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

COUNTS = (1, 10)
"""TGIF-QA: a count is from 1 to 10."""

NEXTQA = {"CW": "C", "CH": "C", "TN": "T", "TC": "T", "DC": "D", "DL": "D", "DO": "D"}
"""The group of each type of question."""
# What happens before is counted with what happens next.
NEXTQA_MERGED = {"TP": "TN"}


def exact_match(predicted: Sequence[object], answers: Sequence[object]) -> np.ndarray:
    """`(Q,)` bool: whether each prediction is the answer, letter for letter.

    Answers are numbers of choices (NExT-QA, TGIF-QA action and transition) or strings, as the dataset has them:
    MSRVTT-QA, MSVD-QA, TGIF-QA frame and ActivityNet-QA compare lower-cased strings without any other care, and a test
    answer that is not in the vocabulary is lost.

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


def soft_accuracy(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
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


def predicted_counts(predicted: ArrayLike) -> np.ndarray:
    """Round and clip predicted numbers to `(Q,)` whole numbers from 1 to 10, as TGIF-QA's repetition counts are scored.

    Halves round to the even number, as the official code's do (YunseokJANG/tgif-qa, `count_base.py`). Answers stay as
    they are: some are 0.
    """
    found: np.ndarray = np.clip(np.rint(np.asarray(predicted, dtype=np.float64)), *COUNTS)
    return found
