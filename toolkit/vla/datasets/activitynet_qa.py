"""Reader of ActivityNet-QA: questions about long videos, with answers of one or a few words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import Problems, read_each
from vla.datasets._row_annotations import annotations_of
from vla.datasets._rows import Row, Rows, read_rows
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError

_CATEGORIES = (
    "motion", "spatial relation", "temporal relation", "yes/no", "color", "object", "location", "number", "other",
)  # fmt: skip


class Dataset:
    """Reader of ActivityNet-QA's pairs of JSON files: questions, and answers with their types (the
    categories).

    Questions without an answer file have no answers. The video `ID` is named `v_ID`, like the
    files of ActivityNet.

    Source: Yu et al. 2019, github.com/MILVLG/activitynet-qa (Apache-2.0).
    """

    files: ClassVar[str] = "{train,val,test}_q.json, each with its {train,val,test}_a.json"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each question; the query id is the file's `question_id`.

        Raises:
            AnnotationError: a file cannot be read or is invalid, or an answer file matches no
                question.
        """
        tables: dict[Path, tuple[Rows, Problems]] = {}
        for path in paths:
            problems = Problems()
            tables[path] = read_rows(path, problems, (".json",)), problems
        answer_files = [
            path
            for path, (rows, _) in tables.items()
            if "answer" in rows.columns and "question" not in rows.columns
        ]
        answers_by_file = {path: _read_answers(path, *tables[path]) for path in answer_files}
        answers = {
            key: row
            for file_answers in answers_by_file.values()
            for key, row in file_answers.items()
        }
        annotate = _annotator(answers)
        annotations = read_each(
            [path for path in paths if path not in answers_by_file],
            lambda path: annotations_of(path, tables[path][1], tables[path][0].rows, annotate),
        )
        query_ids = {a.query_id for a in annotations}
        for path, file_answers in answers_by_file.items():
            if not query_ids & file_answers.keys():
                raise AnnotationError(
                    f"{path} answers none of the questions: it may belong to another split"
                )
        return annotations


def _read_answers(path: Path, rows: Rows, problems: Problems) -> dict[str, Row]:
    row_of: dict[str, Row] = {}
    for row in rows.rows:
        try:
            key, _, _ = row.text("question_id"), row.text("answer"), _category(row)
            if key in row_of:
                raise AnnotationError(
                    f"question_id {key!r:.60} is already on line {row_of[key].line}"
                )
            row_of[key] = row
        except AnnotationError as error:
            problems.add(row.line, f"{row.item}: {error}" if row.item else str(error))
    problems.raise_if_any(path)
    return row_of


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
    number = answer.integer("type")
    if number >= len(_CATEGORIES):
        raise AnnotationError(f"'type' is 0 to {len(_CATEGORIES) - 1}, not {number}")
    return _CATEGORIES[number]
