"""Reader of captions in tables: CSV, TSV, JSONL, or a JSON list of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from vla.datasets._columns import (
    CAPTION,
    ID,
    SPLIT,
    VIDEO,
    TimeColumns,
    find_time_columns,
    first_of,
    look_like_times,
    role_of,
    video_and_caption,
)
from vla.datasets._pairs import parse_list, parse_texts
from vla.datasets._questions import (
    QuestionColumns,
    flat_question,
    question_columns,
    question_from_object,
)
from vla.datasets._reading import Problems, read_each
from vla.datasets._rows import Row, Rows, read_rows, text_of
from vla.datasets._times import Spans, check_span, is_missing
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError
from vla.omissions import Omissions

_USUAL_NAMES = {"video": VIDEO, "caption": CAPTION}
_WINDOWS = ("relevant_windows", "spans")
# `vla import` writes all of these fields, and the other fields of an annotation if they are not
# empty.
_ANNOTATION_FIELDS = frozenset(("query_id", "query", "video", "spans", "split", "source"))
_MAX_LISTED_NAMES = 8
# One of these without its counterpart is a fault of the file; other names may have another meaning.
_PLAIN_TIMES = frozenset(("start", "start_time", "st", "end", "end_time", "et"))

# Line, id in the row, annotation.
_ParsedRow = tuple[int, str, Annotation]


@dataclass(frozen=True)
class _Columns:
    """Columns by their roles; empty if the file has none."""

    video: str
    caption: str
    split: str
    id: str
    times: TimeColumns
    question: QuestionColumns

    @property
    def names(self) -> frozenset[str]:
        plain = frozenset((self.video, self.caption, self.split, self.id, *_WINDOWS))
        return plain | self.times.columns | self.question.columns


class Dataset:
    """Reader of a table with one row per caption; columns are detected by their usual names unless
    named here.

    A row without times describes the whole video. Times are columns like `start` and `end`, `Start
    (s)`, `begin_ms`, `start` and `duration`, or a column like `timestamp` or `segment` with
    `[start, end]` or `0:01 - 0:05`. Numbers are seconds unless the name indicates milliseconds, or
    frames along with a column `fps`. Alternatively, rows have `relevant_windows` or `spans`, a
    list of `[start, end]`. A list of captions with a list of as many times gives one time to each
    caption.

    A question is a row with a text `question` and `choices` (or `options`, or `a0`, `a1`, ...) and
    `answer` (the text, its letter, or its number from 0), or with `answers`, or `count`; or, with
    its text in the caption column, a row with an object `question` (`choices` and `right`, or
    `answers`, or `count`).

    Rows with the same content, and without an id or with the same id, are merged. Texts and
    numbers in other columns are metadata. Rows written by `Annotation.to_json` are restored
    completely, except that `source` is the position in this file.

    Attributes:
        omissions: counts for the last `read`: rows without a caption (`row`), unused columns that
            look like times.
    """

    files: ClassVar[str] = (
        "any CSV, TSV, JSONL or JSON list with a row for each caption; what importing "
        "annotations wrote"
    )

    def __init__(
        self,
        *,
        video_column: str = "",
        caption_column: str = "",
        start_column: str = "",
        end_column: str = "",
        split_column: str = "",
    ) -> None:
        self.omissions = Omissions()
        self._column_names = {
            "video": video_column,
            "caption": caption_column,
            "start": start_column,
            "end": end_column,
            "split": split_column,
        }

    def read(self, *paths: Path) -> list[Annotation]:
        """Return all annotations of the files, in order.

        Raises:
            AnnotationError: a file cannot be read, has no captions, or is invalid; one error lists
                all faults.
        """
        self.omissions = Omissions()
        return read_each(paths, self._read)

    def _read(self, path: Path) -> list[Annotation]:
        problems = Problems()
        rows = read_rows(path, problems)
        if not rows.rows and not problems:
            header = f"a header ({', '.join(rows.columns):.500}) but " if rows.columns else ""
            raise AnnotationError(f"{path} has {header}no rows: it needs one for each caption")
        is_ours = not any(self._column_names.values()) and any(
            row.cells.keys() >= _ANNOTATION_FIELDS for row in rows.rows
        )
        columns = self._columns(rows, problems) if rows.rows and not is_ours else None
        skipped_before = self.omissions.counts.get("row", 0)
        parsed_rows = list(self._annotations(rows, columns, problems)) if columns or is_ours else []
        annotations = _deduplicate(parsed_rows, problems)
        problems.raise_if_any(path, annotations)
        if not annotations:
            num_empty = self.omissions.counts.get("row", 0) - skipped_before
            raise AnnotationError(f"{path} has no captions: all {num_empty} are empty")
        return annotations

    def _columns(self, rows: Rows, problems: Problems) -> _Columns | None:
        """Return the columns of the file by role; None if a required one is missing."""
        column_list = f"the columns are: {', '.join(rows.columns):.500}"
        by_name = {name.casefold(): name for name in reversed(rows.columns)} | {
            name: name for name in rows.columns
        }
        named_columns = {
            role: by_name.get(name) or by_name.get(name.casefold(), "")
            for role, name in self._column_names.items()
            if name
        }
        for role, column in named_columns.items():
            if not column:
                problems.add(
                    rows.header_line,
                    f"there is no column {self._column_names[role]!r}; {column_list}",
                )
        cells = [row.cells for row in rows.rows]
        question = question_columns(rows.columns)
        video, caption = video_and_caption(rows.columns, cells)
        question_text = first_of(("question",), rows.columns)
        if (
            question_text
            and question.columns
            and any(isinstance(row.get(question_text), str) for row in cells)
        ):
            caption = question_text
        roles = {
            "video": named_columns.get("video", video),
            "caption": named_columns.get("caption", caption),
        }
        for role, usual in _USUAL_NAMES.items():
            if not roles[role] and role not in named_columns:
                names = f"{', '.join(usual[:_MAX_LISTED_NAMES])}, ..."
                problems.add(
                    rows.header_line,
                    f"no {role} column ({names}); name it by {role}_column=; {column_list}",
                )
        if not all(roles.values()):
            return None
        is_question = roles["caption"] == question_text
        split = named_columns.get("split") or first_of(SPLIT, rows.columns)
        query_id = first_of(ID, rows.columns)
        other_roles = {
            *roles.values(),
            split,
            query_id,
            *_WINDOWS,
            *(question.columns if is_question else ()),
        }
        times = self._times(rows, named_columns, other_roles, problems)
        flat = question if is_question else QuestionColumns()
        columns = _Columns(roles["video"], roles["caption"], split, query_id, times, flat)
        for name in look_like_times([c for c in rows.columns if c not in columns.names], cells):
            self.omissions.add("time-column", name)
        return columns

    def _times(
        self, rows: Rows, named_columns: dict[str, str], other_roles: set[str], problems: Problems
    ) -> TimeColumns:
        times = find_time_columns(rows.columns, [row.cells for row in rows.rows], other_roles)
        start, end = (named_columns.get(role) or getattr(times, role) for role in ("start", "end"))
        if named_columns.get("start") or named_columns.get("end"):
            times = TimeColumns(start, end, length="" if end else times.length, rate=times.rate)
        plain = [
            c for c in rows.columns if c not in other_roles and role_of(c)[0] in ("start", "end")
        ]
        lone = start or end or next((c for c in plain if c.casefold() in _PLAIN_TIMES), "")
        if lone and not (times.pair or (times.start and (times.end or times.length))):
            other = (
                "end"
                if role_of(lone)[0] == "start" or lone == named_columns.get("start")
                else "start"
            )
            columns = f"the columns are: {', '.join(rows.columns):.500}"
            problems.add(rows.header_line, f"column {lone!r} but no {other} column; {columns}")
            return TimeColumns()
        return times

    def _annotations(
        self, rows: Rows, columns: _Columns | None, problems: Problems
    ) -> Iterator[_ParsedRow]:
        for row in rows.rows:
            try:
                if columns:
                    own_id = row.text(columns.id, "") if columns.id else ""
                    yield from [
                        (row.line, own_id, annotation) for annotation in self._of_row(row, columns)
                    ]
                else:
                    annotation = Annotation.from_json({**row.cells, "source": row.source})
                    yield row.line, annotation.query_id, annotation
            except AnnotationError as error:
                problems.add(row.line, f"{row.item}: {error}" if row.item else str(error))

    def _of_row(self, row: Row, columns: _Columns) -> list[Annotation]:
        for name in (columns.video, columns.caption):
            if name not in row.cells:
                raise AnnotationError(f"no {name!r} here")
        video = row.text(columns.video, "")
        if not video:
            raise AnnotationError(f"{columns.video!r} is empty: the caption has no video")
        split = row.text(columns.split, "") if columns.split else ""
        query_id = (row.text(columns.id, "") if columns.id else "") or row.id
        captions = _captions(row, columns.caption)
        spans = _spans(row, columns, len(captions))
        question, metadata = _question(row, columns), _metadata(row, columns)
        self.omissions.add("row", row.source, captions.count(""))
        return [
            Annotation(
                query_id=query_id if len(captions) == 1 else f"{query_id}#{number}",
                query=caption,
                video=video,
                spans=caption_spans,
                split=split,
                source=row.source,
                question=question,
                metadata=metadata,
            )
            for number, (caption, caption_spans) in enumerate(zip(captions, spans, strict=True), 1)
            if caption
        ]


def _captions(row: Row, column: str) -> list[str]:
    """Return the captions of a row; missing ones are empty."""
    value = row.cells[column]
    captions = value if isinstance(value, list) else parse_texts(value)
    values = [value] if captions is None else captions or [None]
    return ["" if is_missing(caption) else text_of(column, caption) for caption in values]


def _spans(row: Row, columns: _Columns, captions: int) -> list[Spans]:
    """Return the spans of each caption of a row: one each if there are as many times as captions."""
    pairs = columns.times.pairs(row.cells)
    for pair in pairs:
        check_span(*pair)
    names = [
        name
        for name in _WINDOWS
        if not is_missing(row.cells.get(name)) and name not in columns.names - {*_WINDOWS}
    ]
    if names:
        if pairs or len(names) > 1:
            raise AnnotationError(
                f"times are given twice: {', '.join(names)}{' and start, end' if pairs else ''}"
            )
        name = names[0]
        windows = parse_list(row.cells[name])
        cells = row.cells if windows is None else {**row.cells, name: windows}
        return [replace(row, cells=cells).spans(name)] * captions
    if captions == 1 or len(pairs) < 2:
        return [tuple(pairs)] * captions
    if len(pairs) != captions:
        raise AnnotationError(
            f"{captions} captions and {len(pairs)} times: one time for each caption is needed"
        )
    return [(pair,) for pair in pairs]


def _question(row: Row, columns: _Columns) -> Question | None:
    """Return the question of a row; None if it is a caption."""
    record = row.cells.get("question")
    if isinstance(record, dict) and columns.caption != "question":
        return question_from_object(record)
    return flat_question(row.cells, columns.question) if columns.question.columns else None


def _metadata(row: Row, columns: _Columns) -> tuple[tuple[str, str], ...]:
    """Return the texts and numbers in columns without a role; lists, objects and blank cells are
    skipped.
    """
    plain = (
        (name, value) for name, value in row.cells.items() if name and name not in columns.names
    )
    pairs = (
        (name, str(value).strip()) for name, value in plain if isinstance(value, str | int | float)
    )
    # pandas writes row numbers into a column without a name, and reads it as `Unnamed: 0`.
    return tuple(
        (name, text)
        for name, text in pairs
        if text not in ("", "nan") and not name.startswith("Unnamed: ")
    )


def _deduplicate(parsed_rows: list[_ParsedRow], problems: Problems) -> list[Annotation]:
    first_id_of: dict[Annotation, str] = {}
    by_id: dict[str, tuple[int, Annotation]] = {}
    for line, own_id, annotation in parsed_rows:
        query_id = annotation.query_id
        if not own_id:
            query_id = first_id_of.setdefault(
                replace(annotation, query_id="-", source="", metadata=()), query_id
            )
        if query_id not in by_id:
            by_id[query_id] = line, annotation
            continue
        first, same = by_id[query_id]
        if replace(annotation, query_id=query_id, source="", metadata=()) != replace(
            same, source="", metadata=()
        ):
            problems.add(line, f"id {query_id!r} is already on line {first}; ids must be unique")
            continue
        both = tuple(dict.fromkeys((*same.metadata, *annotation.metadata)))
        by_id[query_id] = first, replace(same, metadata=both)
    return [annotation for _, annotation in by_id.values()]
