"""Reader of How2QA: multiple-choice questions about parts of videos; also of TVQA and tables of
the same form.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import Problems, read_each
from vla.datasets._row_annotations import annotations_of
from vla.datasets._rows import Row, read_rows
from vla.datasets._times import Spans, seconds, spans_of
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError

_COLUMNS = ("video", "ts", "a0", "a1", "a2", "question", "a3")
_RIGHT_IS_LAST = 3
# The first name that a row has is used.
_QUESTION, _VIDEO, _ID = (
    ("question", "q"),
    ("video", "video_id", "vid_name", "vid"),
    ("qid", "question_id"),
)
_ANSWER = ("answer_idx", "answer_id", "answer", "mc_idx")
_CHOICE = re.compile("a[0-9]")
_STRETCH = re.compile(r"\[?\s*([^\s:\[\]]+?)\s*[-:]\s*([^\s:\[\]]+)\s*\]?")


class Dataset:
    """Reader of How2QA as published, and of tables or JSONL with a question, choices `a0`, `a1`,
    ... and the correct index.

    A published row has the video id, `[start:end]` in the whole video, three wrong choices, the
    question and the correct choice, without column names. The choices keep this order: the correct
    one is always the last. Rows with names may have `start` and `end`, or `ts` like `12.5-20`,
    relative to the clip if the video is a clip. Some published spans have zero length; those rows
    are invalid.

    Source: Li et al. 2020, github.com/ych133/How2R-and-How2QA (MIT); Lei et al. 2018 (TVQA).
    """

    files: ClassVar[str] = (
        "how2QA_{train,val}_release.csv; or CSV or JSONL with question, a0, a1, ..., answer_idx"
    )

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each question.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        return read_each(paths, _read)


def _read(path: Path) -> list[Annotation]:
    problems = Problems()
    rows = read_rows(path, problems, (".csv", ".tsv", ".jsonl", ".json"))
    if path.suffix.lower() == ".csv" and not any(_CHOICE.fullmatch(name) for name in rows.columns):
        problems = Problems()
        rows = read_rows(path, problems, (".csv",), columns=_COLUMNS, delimiter=",")
    return annotations_of(path, problems, rows.rows, _annotations)


def _annotations(row: Row) -> list[Annotation]:
    return [
        Annotation(
            query_id=_first(row, _ID, "") or row.id,
            query=_first(row, _QUESTION),
            video=_first(row, _VIDEO),
            spans=_spans(row),
            source=row.source,
            category=row.text("type", ""),
            question=_question(row),
        )
    ]


def _question(row: Row) -> Question:
    names = sorted(name for name in row.cells if _CHOICE.fullmatch(name))
    choices = tuple(row.text(name) for name in names)
    if not choices:
        raise AnnotationError("there are no choices 'a0', 'a1', ...")
    if tuple(row.cells) == _COLUMNS:
        return Question(choices, _RIGHT_IS_LAST)
    answer = next((name for name in _ANSWER if name in row.cells), None)
    if answer is None or not row.text(answer, ""):
        return Question(choices)
    return Question(choices, row.integer(answer))


def _spans(row: Row) -> Spans:
    span_text = row.text("ts", "")
    if not span_text:
        return spans_of(row.cells.get("start"), row.cells.get("end"))
    match = _STRETCH.fullmatch(span_text)
    if match is None:
        raise AnnotationError(f"'ts' must be like [12.5:20] or 12.5-20, not {span_text!r:.60}")
    return spans_of(seconds(match[1]), seconds(match[2]))


def _first(row: Row, names: tuple[str, ...], default: str | None = None) -> str:
    return row.text(next((name for name in names if name in row.cells), names[0]), default)
