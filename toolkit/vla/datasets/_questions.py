"""Questions in rows: an object `question`, or flat columns with the choices and the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from vla.datasets._columns import first_of
from vla.datasets._pairs import listed
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
_NUMBERED = re.compile(r"(?:a|option|choice|opt|candidate|answer)[ _-]?([0-9]|[a-h])|([a-h])", re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Ha-h])[).:]?")


@dataclass(frozen=True)
class QuestionColumns:
    """Columns of flat questions; empty where there is none.

    Attributes:
        choices: column of a list of choices.
        each: columns of one choice each, in order.
        right: column of the right choice, or of the one answer.
        answers: column of a list of answers.
        count: column of a count.
    """

    choices: str = ""
    each: tuple[str, ...] = ()
    right: str = ""
    answers: str = ""
    count: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that are used."""
        return frozenset(filter(None, (self.choices, *self.each, self.right, self.answers, self.count)))


def question_columns(columns: Iterable[str]) -> QuestionColumns:
    """The columns of choices and answers, by their usual names."""
    there = [c for c in columns if c]
    choices = first_of(_CHOICES, there)
    each: tuple[str, ...] = ()
    if not choices:
        numbered = {c: match[1] or match[2] for c in there if (match := _NUMBERED.fullmatch(c.strip()))}
        each = tuple(sorted(numbered, key=lambda c: numbered[c].casefold())) if len(numbered) > 1 else ()
    right = first_of((*_RIGHT, *_ANSWER), there) if choices or each else first_of(_ANSWER[:-2], there)
    return QuestionColumns(choices, each, right, first_of(_ANSWERS, there), first_of(_COUNT, there))


def flat_question(cells: Mapping[str, Any], found: QuestionColumns) -> Question:
    """The question that a row says in flat columns; without an answer where the row has none.

    Raises:
        AnnotationError: the choices are not a list of texts, or the answer is none of them.
    """
    choices = _choices(cells, found)
    right = cells.get(found.right) if found.right else None
    if choices:
        return Question(tuple(choices.values()), None if is_missing(right) else _index(right, choices))
    answers = cells.get(found.answers) if found.answers else None
    if not is_missing(answers):
        several = listed(answers)
        return Question(answers=tuple(map(str, [answers] if several is None else several)))
    count = cells.get(found.count) if found.count else None
    if not is_missing(count):
        return Question(count=_whole(count))
    return Question(answers=() if is_missing(right) else (str(right).strip(),))


def question_in(told: dict[str, Any]) -> Question:
    """The question that an object `question` says: choices and the right one, or answers, or a count."""
    try:
        return Question.from_json(told)
    except TypeError as error:
        names = ", ".join(f.name for f in fields(Question))
        raise AnnotationError(f"'question' holds {', '.join(map(repr, told))}, and not some of {names}") from error


def _choices(cells: Mapping[str, Any], found: QuestionColumns) -> dict[str, str]:
    """The choices by their letters."""
    if found.each:
        texts = [str(cells[c]).strip() for c in found.each if not is_missing(cells.get(c))]
        return dict(zip("ABCDEFGH", texts, strict=False))
    value = cells.get(found.choices) if found.choices else None
    if is_missing(value) or value == []:
        return {}
    if isinstance(value, dict):
        return {str(key): str(text).strip() for key, text in value.items()}
    several = listed(value)
    if several is None:
        raise AnnotationError(f"{found.choices!r} must be a list of texts, not {value!r:.60}")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if len(several) <= 26 else map(str, range(len(several)))
    return {letter: str(text).strip() for letter, text in zip(letters, several, strict=False)}


def _index(right: object, choices: dict[str, str]) -> int:
    """Place of the right choice, from 0: a text that is a choice, its letter, or its number."""
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
        return _whole(right)
    except AnnotationError as error:
        raise AnnotationError(f"the answer {right!r:.60} is none of the {len(choices)} choices") from error


def _whole(value: object) -> int:
    plain = value.strip() if isinstance(value, str) else value
    if isinstance(plain, str) and re.fullmatch(r"[0-9]{1,9}(\.0)?", plain):
        return int(float(plain))
    if isinstance(plain, int | float) and not isinstance(plain, bool) and abs(plain) < 1e9 and plain == int(plain):
        return int(plain)
    raise AnnotationError(f"{value!r:.60} is no whole number")
