"""NExT-QA: why and how, before and after; to choose from or open, and with NExT-GQA the moments that show the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from vla.datasets._json import kind_of
from vla.datasets._reading import Problems, read_each
from vla.datasets._rows import Row, read_members, reader
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError

_CHOICES = ("a0", "a1", "a2", "a3", "a4")
# An annotator's start may lie this little before the video's first frame; it is the video's start.
_EARLY_SECONDS = 0.5


class Dataset:
    """Reads the CSV of NExT-QA, NExT-OE and NExT-GQA, and beside it what NExT-GQA and NExT-OE have in JSON.

    With columns `a0` to `a4` a question is to choose from, and `answer` is the right one's index (NExT-QA) or text
    (NExT-GQA, the first of equal ones); without them it is open. `gsub_{val,test}.json` gives spans that show the answer,
    and the video's duration; `add_reference_answer_test.json` a second answer. The category is `CW`, `CH` (causal),
    `TN`, `TP`, `TC` (temporal), `DC`, `DL`, `DO`, `DB` (descriptive).

    Source: Xiao et al. 2021 and 2024, github.com/doc-doc/NExT-QA, NExT-OE and NExT-GQA (MIT).
    """

    files: ClassVar[str] = "{train,val,test}.csv, and with it gsub_{val,test}.json or add_reference_answer_test.json"

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each question: `VIDEO_QID`.

        Raises:
            AnnotationError: a file cannot be read or holds faults, or what lies beside belongs to none of the questions.
        """
        beside = {path: _beside(path) for path in paths if path.suffix.lower() == ".json"}
        known = {key: told for of_file in beside.values() for key, told in of_file.items()}
        found = read_each([p for p in paths if p not in beside], reader(_annotator(known), (".csv",), delimiter=","))
        asked = {a.query_id for a in found}
        for path, told in beside.items():
            if not asked & told.keys():
                raise AnnotationError(f"{path} tells of none of the questions: is it of another split?")
        return found


def _annotator(known: dict[str, dict[str, Any]]) -> Callable[[Row], list[Annotation]]:
    def annotations(row: Row) -> list[Annotation]:
        video = row.text("video" if "video" in row.cells else "video_id")
        query_id = f"{video}_{row.text('qid')}"
        told = known.get(query_id, {})
        return [
            Annotation(
                query_id=query_id,
                query=row.text("question"),
                video=video,
                spans=told.get("spans", ()),
                source=row.source,
                duration=told.get("duration"),
                category=row.text("type", ""),
                question=_question(row, told.get("answer", "")),
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
            raise AnnotationError(f"'answer' must be one of the choices or its index, not {answer!r:.60}")
        return Question(choices, choices.index(answer))
    return Question(choices, row.whole("answer"))


def _beside(path: Path) -> dict[str, dict[str, Any]]:
    """What the file tells of each question, by query id."""
    problems, known = Problems(), dict[str, dict[str, Any]]()
    for video, line, member in read_members(path, problems):
        if not isinstance(member, dict):
            problems.add(line, f"{video!r:.60}: an object is wanted here, not one {kind_of(member)}")
            continue
        about = Row(path, line, "", member)
        of_question = member.get("location", member)
        for qid, value in of_question.items() if isinstance(of_question, dict) else ():
            try:
                if of_question is member:
                    known[f"{video}_{qid}"] = {"answer": about.text(qid)}
                else:
                    windows = [_from_start(window) for window in value] if isinstance(value, list) else value
                    spans = Row(path, line, "", {"spans": windows}).spans("spans")
                    known[f"{video}_{qid}"] = {"spans": spans, "duration": about.seconds("duration")}
            except AnnotationError as error:
                problems.add(line, f"{video!r:.60} question {qid!r:.60}: {error}")
        if not isinstance(of_question, dict):
            problems.add(line, f"{video!r:.60}: 'location' must be an object, not one {kind_of(of_question)}")
    problems.raise_if_any(path)
    return known


def _from_start(window: Any) -> Any:
    is_pair = isinstance(window, list) and len(window) == 2 and isinstance(window[0], float)
    return [0.0, window[1]] if is_pair and -_EARLY_SECONDS <= window[0] < 0 else window
