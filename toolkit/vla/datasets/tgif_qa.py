"""Reader of TGIF-QA: repeated actions, state transitions, counts and single frames in short GIFs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import read_each
from vla.datasets._row_annotations import reader
from vla.datasets._rows import Row
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError

_CHOICES = ("a1", "a2", "a3", "a4", "a5")
_FRAME_CATEGORIES = ("object", "number", "color", "location")


class Dataset:
    """Reader of the four tasks of TGIF-QA, distinguished by their columns; fields are
    tab-separated despite the suffix `.csv`.

    `action` and `transition` are multiple-choice, `count` is a number, and a question about a
    frame is open-ended. The category is the name of the task, or for frames `object`, `number`,
    `color` or `location`. The caption from which such a question was generated (`description`)
    contains its answer and is skipped.

    Source: Jang et al. 2017, github.com/YunseokJANG/tgif-qa.
    """

    files: ClassVar[str] = "{Train,Test}_{action,transition,count,frameqa}_question.csv"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each question; the query id is the file's `vid_id` (`key`
        numbers the GIFs).

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        return read_each(paths, reader(_annotations, (".csv", ".tsv"), delimiter="\t"))


def _annotations(row: Row) -> list[Annotation]:
    question, category = _question(row)
    return [
        Annotation(
            query_id=row.text("vid_id"),
            query=row.text("question"),
            video=row.text("gif_name"),
            source=row.source,
            category=category,
            question=question,
        )
    ]


def _question(row: Row) -> tuple[Question, str]:
    if "a1" in row.cells:
        category = "transition" if row.text("vid_id").startswith("TRANS") else "action"
        return Question(tuple(row.text(name) for name in _CHOICES), row.integer("answer")), category
    if "type" not in row.cells:
        return Question(count=row.integer("answer")), "count"
    number = row.integer("type")
    if number >= len(_FRAME_CATEGORIES):
        raise AnnotationError(f"'type' is 0 to {len(_FRAME_CATEGORIES) - 1}, not {number}")
    return Question(answers=(row.text("answer"),)), _FRAME_CATEGORIES[number]
