"""Open-ended questions with one-word answers: the common format of MSRVTT-QA and MSVD-QA."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from vla.datasets._reading import read_each
from vla.datasets._row_annotations import reader
from vla.datasets._rows import Row
from vla.datasets.base import Annotation, Question

SUFFIXES = (".json", ".jsonl")

# The authors of the data sets, and later papers, report results by these words.
_CATEGORIES = ("what", "who", "how", "when", "where")


def read_questions(paths: Iterable[Path], name_of: Callable[[str], str]) -> list[Annotation]:
    """Return one annotation for each question; the query id is the file's `id`.

    Args:
        paths: JSON lists or JSONL of objects with `question`, `answer`, `video_id`, and optionally
            `id`.
        name_of: maps the number of a video to its name.

    Raises:
        AnnotationError: a file cannot be read or is invalid; one error lists all faults.
    """

    def annotations(row: Row) -> list[Annotation]:
        question, answer, video = row.text("question"), row.text("answer", ""), row.text("video_id")
        first = question.split()[0].lower()
        return [
            Annotation(
                query_id=row.text("id", "") or row.id,
                query=question,
                video=name_of(video) if video.isdecimal() else video,
                source=row.source,
                category=first if first in _CATEGORIES else "",
                question=Question(answers=(answer,) if answer else ()),
            )
        ]

    return read_each(paths, reader(annotations, SUFFIXES))
