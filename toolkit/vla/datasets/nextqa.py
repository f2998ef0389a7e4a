"""Reader of NExT-QA: causal and temporal questions, multiple-choice or open-ended; NExT-GQA adds
evidence spans.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from vla.datasets._json import kind_of
from vla.datasets._reading import Problems, read_each
from vla.datasets._row_annotations import reader
from vla.datasets._rows import Row, read_members
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError

_CHOICES = ("a0", "a1", "a2", "a3", "a4")
# A span may start this much before the first frame of the video; it is clipped to the start.
_EARLY_SECONDS = 0.5


class Dataset:
    """Reader of the CSV of NExT-QA, NExT-OE and NExT-GQA, and of the JSON files of NExT-GQA and
    NExT-OE.

    With columns `a0` to `a4` a question is multiple-choice, and `answer` is the index (NExT-QA) or
    the text (NExT-GQA, the first of equal ones) of the correct choice; without them it is
    open-ended. `gsub_{val,test}.json` contains evidence spans and the durations of the videos;
    `add_reference_answer_test.json` a second answer. The category is `CW`, `CH` (causal), `TN`,
    `TP`, `TC` (temporal), `DC`, `DL`, `DO` or `DB` (descriptive).

    Source: Xiao et al. 2021 and 2024, github.com/doc-doc/NExT-QA, NExT-OE and NExT-GQA (MIT).
    """

    files: ClassVar[str] = (
        "{train,val,test}.csv, and with it gsub_{val,test}.json or add_reference_answer_test.json"
    )

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each question: `VIDEO_QID`.

        Raises:
            AnnotationError: a file cannot be read or is invalid, or a JSON file matches no
                question.
        """
        json_files = {path: _read_json(path) for path in paths if path.suffix.lower() == ".json"}
        records = {
            key: file_records
            for file_records in json_files.values()
            for key, file_records in file_records.items()
        }
        annotations = read_each(
            [p for p in paths if p not in json_files],
            reader(_annotator(records), (".csv",), delimiter=","),
        )
        query_ids = {a.query_id for a in annotations}
        for path, file_records in json_files.items():
            if not query_ids & file_records.keys():
                raise AnnotationError(
                    f"{path} matches none of the questions: it may belong to another split"
                )
        return annotations


def _annotator(records: dict[str, dict[str, Any]]) -> Callable[[Row], list[Annotation]]:
    def annotations(row: Row) -> list[Annotation]:
        video = row.text("video" if "video" in row.cells else "video_id")
        query_id = f"{video}_{row.text('qid')}"
        record = records.get(query_id, {})
        return [
            Annotation(
                query_id=query_id,
                query=row.text("question"),
                video=video,
                spans=record.get("spans", ()),
                source=row.source,
                duration=record.get("duration"),
                category=row.text("type", ""),
                question=_question(row, record.get("answer", "")),
            )
        ]

    return annotations


def _question(row: Row, second: str) -> Question:
    answer = row.text("answer", "")
    if "a0" not in row.cells:
        return Question(answers=tuple(text for text in (answer, second) if text))
    choices = tuple(row.text(name) for name in _CHOICES)
    if not answer:
        return Question(choices)
    if "video_id" in row.cells or not answer.isdecimal():
        if answer not in choices:
            raise AnnotationError(
                f"'answer' must be one of the choices or its index, not {answer!r:.60}"
            )
        return Question(choices, choices.index(answer))
    return Question(choices, row.integer("answer"))


def _read_json(path: Path) -> dict[str, dict[str, Any]]:
    """Return the fields that a JSON file adds to each question, by query id."""
    problems, records = Problems(), dict[str, dict[str, Any]]()
    for video, line, member in read_members(path, problems):
        if not isinstance(member, dict):
            problems.add(line, f"{video!r:.60}: expected an object, not a {kind_of(member)}")
            continue
        video_row = Row(path, line, "", member)
        values_by_qid = member.get("location", member)
        for qid, value in values_by_qid.items() if isinstance(values_by_qid, dict) else ():
            try:
                if values_by_qid is member:
                    records[f"{video}_{qid}"] = {"answer": video_row.text(qid)}
                else:
                    windows = (
                        [_from_start(window) for window in value]
                        if isinstance(value, list)
                        else value
                    )
                    spans = Row(path, line, "", {"spans": windows}).spans("spans")
                    records[f"{video}_{qid}"] = {
                        "spans": spans,
                        "duration": video_row.seconds("duration"),
                    }
            except AnnotationError as error:
                problems.add(line, f"{video!r:.60} question {qid!r:.60}: {error}")
        if not isinstance(values_by_qid, dict):
            problems.add(
                line, f"{video!r:.60}: 'location' must be an object, not a {kind_of(values_by_qid)}"
            )
    problems.raise_if_any(path)
    return records


def _from_start(window: Any) -> Any:
    is_pair = isinstance(window, list) and len(window) == 2 and isinstance(window[0], float)
    return [0.0, window[1]] if is_pair and -_EARLY_SECONDS <= window[0] < 0 else window
