"""Question answering metrics: accuracy of answers.

WUPS (open-ended NExT-QA) is missing: it needs WordNet, an extra download.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError

COUNTS = (1, 10)
"""Range of a count in TGIF-QA."""

NEXTQA = {"CW": "C", "CH": "C", "TN": "T", "TC": "T", "DC": "D", "DL": "D", "DO": "D"}
"""Group of each question type of NExT-QA."""
# Questions about the event before are scored with those about the event after.
NEXTQA_ALIASES = {"TP": "TN"}


def exact_match(predictions: Sequence[object], answers: Sequence[object]) -> np.ndarray:
    """Return `(Q,)` bool: whether each prediction equals the answer, letter for letter.

    Answers are choice numbers (NExT-QA, TGIF-QA action and transition) or strings, as in the
    dataset. MSRVTT-QA, MSVD-QA, TGIF-QA frame and ActivityNet-QA compare lower-cased strings
    without further normalization, and a test answer outside the vocabulary is lost.

    Raises:
        ShapeError: predictions and answers differ in number.
        UsageError: no questions, or numbers compared with strings.
    """
    if len(predictions) != len(answers):
        raise ShapeError(
            f"predictions of {len(predictions)} questions, but answers of {len(answers)}"
        )
    if not len(answers):
        raise UsageError("no questions to evaluate on")
    if isinstance(predictions[0], str) != isinstance(answers[0], str):
        raise UsageError(
            f"prediction {predictions[0]!r} and answer {answers[0]!r} must both be strings or "
            f"both be numbers"
        )
    return np.array([p == a for p, a in zip(predictions, answers, strict=True)])


def soft_accuracy(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Return `(Q,)` 0, 1/2 or 1: half for each annotator with the predicted answer, at most 1.

    Source: iVQA, Just Ask.

    Args:
        predictions: one answer for each question.
        answers: answers of all annotators, for each question.

    Raises:
        ShapeError: predictions and answers differ in number.
        UsageError: no questions, or a question without answers.
    """
    if len(predictions) != len(answers):
        raise ShapeError(
            f"predictions of {len(predictions)} questions, but answers of {len(answers)}"
        )
    if not len(answers) or not all(len(of_question) for of_question in answers):
        raise UsageError(
            f"{sum(not len(of_question) for of_question in answers)} of {len(answers)} questions "
            f"have no answer"
        )
    return np.array(
        [
            min(list(of_question).count(p) / 2, 1.0)
            for p, of_question in zip(predictions, answers, strict=True)
        ]
    )


def predicted_counts(values: ArrayLike) -> np.ndarray:
    """Round and clip predictions to `(Q,)` integers from 1 to 10, as TGIF-QA's counts are scored.

    Halves round to even, as in the official code (YunseokJANG/tgif-qa, `count_base.py`). True
    counts are not clipped: some are 0.
    """
    counts: np.ndarray = np.clip(np.rint(np.asarray(values, dtype=np.float64)), *COUNTS)
    return counts
