"""Questions in rows: an object `question`, or columns with the choices and the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from vla.datasets._columns import first_of
from vla.datasets._pairs import parse_list
from vla.datasets._times import is_missing
from vla.datasets.base import Question
from vla.errors import AnnotationError

_CHOICES = ("choices", "options", "candidates", "answer_choices", "answer_options", "mc_options")
_RIGHT = (
    "right",
    "correct_idx",
    "answer_idx",
    "correct_index",
    "answer_index",
    "correct_answer_idx",
    "correct",
    "correct_choice",
)
_ANSWER = ("answer", "correct_answer", "ground_truth", "gt_answer", "gt", "label")
_ANSWERS = ("answers",)
_COUNT = ("count",)
_CHOICE_NAME = re.compile(
    r"(?:a|option|choice|opt|candidate|answer)[ _-]?([0-9]|[a-h])|([a-h])", re.IGNORECASE
)
_LETTER = re.compile(r"\(?([A-Ha-h])[).:]?")


@dataclass(frozen=True)
class QuestionColumns:
    """Columns of a question; empty if there is none.

    Attributes:
        choices: column with a list of choices.
        each: columns with one choice each, in order.
        right: column with the correct choice, or with the only answer.
        answers: column with a list of answers.
        count: column with a count.
    """

    choices: str = ""
    each: tuple[str, ...] = ()
    right: str = ""
    answers: str = ""
    count: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns in use."""
        return frozenset(
            filter(None, (self.choices, *self.each, self.right, self.answers, self.count))
        )


def question_columns(columns: Iterable[str]) -> QuestionColumns:
    """Return the columns of choices and answers, by their usual names."""
    named_columns = [c for c in columns if c]
    choices = first_of(_CHOICES, named_columns)
    each: tuple[str, ...] = ()
    if not choices:
        label_of = {
            c: match[1] or match[2]
            for c in named_columns
            if (match := _CHOICE_NAME.fullmatch(c.strip()))
        }
        each = (
            tuple(sorted(label_of, key=lambda c: label_of[c].casefold()))
            if len(label_of) > 1
            else ()
        )
    right = (
        first_of((*_RIGHT, *_ANSWER), named_columns)
        if choices or each
        else first_of(_ANSWER[:-2], named_columns)
    )
    return QuestionColumns(
        choices, each, right, first_of(_ANSWERS, named_columns), first_of(_COUNT, named_columns)
    )


def flat_question(cells: Mapping[str, Any], columns: QuestionColumns) -> Question:
    """Return the question in the columns of a row; without an answer if the row has none.

    Raises:
        AnnotationError: the choices are not a list of texts, or the answer is not one of them.
    """
    choices = _choices(cells, columns)
    right = cells.get(columns.right) if columns.right else None
    if choices:
        return Question(
            tuple(choices.values()), None if is_missing(right) else _index(right, choices)
        )
    answers = cells.get(columns.answers) if columns.answers else None
    if not is_missing(answers):
        several = parse_list(answers)
        return Question(answers=tuple(map(str, [answers] if several is None else several)))
    count = cells.get(columns.count) if columns.count else None
    if not is_missing(count):
        return Question(count=_integer(count))
    return Question(answers=() if is_missing(right) else (str(right).strip(),))


def question_from_object(record: dict[str, Any]) -> Question:
    """Return the question in an object: choices and the correct one, or answers, or a count."""
    try:
        return Question.from_json(record)
    except TypeError as error:
        names = ", ".join(f.name for f in fields(Question))
        raise AnnotationError(
            f"'question' has the fields {', '.join(map(repr, record))}; allowed are {names}"
        ) from error


def _choices(cells: Mapping[str, Any], columns: QuestionColumns) -> dict[str, str]:
    """Return the choices by their letters."""
    if columns.each:
        texts = [str(cells[c]).strip() for c in columns.each if not is_missing(cells.get(c))]
        return dict(zip("ABCDEFGH", texts, strict=False))
    value = cells.get(columns.choices) if columns.choices else None
    if is_missing(value) or value == []:
        return {}
    if isinstance(value, dict):
        return {str(key): str(text).strip() for key, text in value.items()}
    several = parse_list(value)
    if several is None:
        raise AnnotationError(f"{columns.choices!r} must be a list of texts, not {value!r:.60}")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if len(several) <= 26 else map(str, range(len(several)))
    return {letter: str(text).strip() for letter, text in zip(letters, several, strict=False)}


def _index(right: object, choices: dict[str, str]) -> int:
    """Return the index of the correct choice, from 0; it is given by its text, its letter, or its
    number.
    """
    texts = [text.casefold() for text in choices.values()]
    if isinstance(right, str):
        plain = right.strip()
        if texts.count(plain.casefold()) == 1:
            return texts.index(plain.casefold())
        letter = _LETTER.fullmatch(plain)
        labels = [label.casefold() for label in choices]
        for label in (plain, letter[1] if letter else ""):
            if label.casefold() in labels:
                return labels.index(label.casefold())
    try:
        return _integer(right)
    except AnnotationError as error:
        raise AnnotationError(
            f"the answer {right!r:.60} is not one of the {len(choices)} choices"
        ) from error


def _integer(value: object) -> int:
    plain = value.strip() if isinstance(value, str) else value
    if isinstance(plain, str) and re.fullmatch(r"[0-9]{1,9}(\.0)?", plain):
        return int(float(plain))
    if (
        isinstance(plain, int | float)
        and not isinstance(plain, bool)
        and abs(plain) < 1e9
        and plain == int(plain)
    ):
        return int(plain)
    raise AnnotationError(f"{value!r:.60} is not an integer")
