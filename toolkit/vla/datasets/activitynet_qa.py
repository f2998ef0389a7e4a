"""ActivityNet-QA: questions about long videos, answered in a word or a few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import Problems, read_each
from vla.datasets._rows import Row, Rows, annotations_of, read_rows
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError

_CATEGORIES = (
    "motion", "spatial relation", "temporal relation", "yes/no", "color", "object", "location", "number", "other",
)  # fmt: skip


class Dataset:
    """Reads ActivityNet-QA's pairs of JSON files: questions, and their answers with the type, which is the category.

    Questions without their file of answers are read as such, without an answer. The video `ID` is called `v_ID`, as
    ActivityNet calls its files.

    Source: Yu et al. 2019, github.com/MILVLG/activitynet-qa (Apache-2.0).
    """

    files: ClassVar[str] = "{train,val,test}_q.json, each with its {train,val,test}_a.json"

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each question, with the file's `question_id` for an id.

        Raises:
            AnnotationError: a file cannot be read or holds faults, or holds answers to none of the questions.
        """
        tables: dict[Path, tuple[Rows, Problems]] = {}
        for path in paths:
            problems = Problems()
            tables[path] = read_rows(path, problems, (".json",)), problems
        beside = [
            path for path, (rows, _) in tables.items() if "answer" in rows.columns and "question" not in rows.columns
        ]
        of_answers = {path: _answers(path, *tables[path]) for path in beside}
        answers = {key: row for of_file in of_answers.values() for key, row in of_file.items()}
        annotate = _annotator(answers)
        found = read_each(
            [path for path in paths if path not in of_answers],
            lambda path: annotations_of(path, tables[path][1], tables[path][0].rows, annotate),
        )
        asked = {a.query_id for a in found}
        for path, of_file in of_answers.items():
            if not asked & of_file.keys():
                raise AnnotationError(f"{path} answers none of the questions: is it of another split?")
        return found


def _answers(path: Path, rows: Rows, problems: Problems) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows.rows:
        try:
            key, _, _ = row.text("question_id"), row.text("answer"), _category(row)
            if key in found:
                raise AnnotationError(f"question_id {key!r:.60} is already on line {found[key].line}")
            found[key] = row
        except AnnotationError as error:
            problems.add(row.line, f"{row.item}: {error}" if row.item else str(error))
    problems.raise_if_any(path)
    return found


def _annotator(answers: dict[str, Row]) -> Callable[[Row], list[Annotation]]:
    def annotations(row: Row) -> list[Annotation]:
        query_id = row.text("question_id")
        answer = row if "answer" in row.cells else answers.get(query_id)
        return [
            Annotation(
                query_id=query_id,
                query=row.text("question"),
                video=f"v_{row.text('video_name')}",
                source=row.source,
                category=_category(answer) if answer else "",
                question=Question(answers=(answer.text("answer"),) if answer else ()),
            )
        ]

    return annotations


def _category(answer: Row) -> str:
    number = answer.whole("type")
    if number >= len(_CATEGORIES):
        raise AnnotationError(f"'type' is 0 to {len(_CATEGORIES) - 1}, not {number}")
    return _CATEGORIES[number]
