"""Captions in a table of any origin: CSV, TSV, JSONL, or JSON that is a list of objects."""

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
    Times,
    first_of,
    look_like_times,
    role_of,
    times_in,
    video_and_caption,
)
from vla.datasets._pairs import listed, texts_in
from vla.datasets._questions import QuestionColumns, flat_question, question_columns, question_in
from vla.datasets._reading import Problems, read_each
from vla.datasets._rows import Row, Rows, read_rows, text_of
from vla.datasets._times import Spans, check_span, is_missing
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError
from vla.omissions import Omissions

_USUAL = {"video": VIDEO, "caption": CAPTION}
_WINDOWS = ("relevant_windows", "spans")
# What `vla import` writes has all of these, and whatever else an annotation holds.
_OURS = frozenset(("query_id", "query", "video", "spans", "split", "source"))
_NAMED = 8
# One of these without the other is a fault of the file; other names may mean something else.
_PLAIN_TIMES = frozenset(("start", "start_time", "st", "end", "end_time", "et"))

# Line, the id that the row itself has, and what it says.
_Found = tuple[int, str, Annotation]


@dataclass(frozen=True)
class _Columns:
    """The columns by what they are for; empty where a file has none."""

    video: str
    caption: str
    split: str
    id: str
    times: Times
    question: QuestionColumns

    @property
    def used(self) -> frozenset[str]:
        plain = frozenset((self.video, self.caption, self.split, self.id, *_WINDOWS))
        return plain | self.times.columns | self.question.columns


class Dataset:
    """Reads a table with a row for each caption; columns are found by their usual names unless they are named here.

    A row without times tells of the whole video. Times are columns like `start` and `end`, `Start (s)`, `begin_ms`, `start`
    and `duration`, or a column like `timestamp` or `segment` with `[start, end]` or `0:01 - 0:05`; numbers are seconds unless
    the name says milliseconds, or frames beside a column `fps`. Rows may have `relevant_windows` or `spans`, a list of
    `[start, end]`, instead. A list of captions beside a list of as many times is a caption with a time each.

    A question is a row with a text `question` and `choices` (or `options`, or `a0`, `a1`, ...) and `answer` (the text, its
    letter, or its number from 0), or with `answers`, or `count`; or, with its text in the caption's column, a row with an
    object `question` (`choices` and `right`, or `answers`, or `count`).

    Rows that say the same, under no id or the same, are one annotation. Texts and numbers in other columns are its metadata.
    Rows as `Annotation.to_json` writes them come back whole, only with where they were read for a `source`.

    Attributes:
        omissions: of the files last read: rows without a caption (`row`), columns that look like times but are not used.
    """

    files: ClassVar[str] = (
        "any CSV, TSV, JSONL or JSON list with a row for each caption; what importing annotations wrote"
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
        self._named = {
            "video": video_column,
            "caption": caption_column,
            "start": start_column,
            "end": end_column,
            "split": split_column,
        }

    def read(self, *paths: Path) -> list[Annotation]:
        """Every annotation of the files, in their order.

        Raises:
            AnnotationError: a file cannot be read, has no captions, or holds faults; one error names them all.
        """
        self.omissions = Omissions()
        return read_each(paths, self._read)

    def _read(self, path: Path) -> list[Annotation]:
        problems = Problems()
        rows = read_rows(path, problems)
        if not rows.rows and not problems:
            header = f"a header ({', '.join(rows.columns):.500}) but " if rows.columns else ""
            raise AnnotationError(f"{path} has {header}no rows: it needs one for each caption")
        is_ours = not any(self._named.values()) and any(row.cells.keys() >= _OURS for row in rows.rows)
        columns = self._columns(rows, problems) if rows.rows and not is_ours else None
        left_out = self.omissions.counts.get("row", 0)
        found = list(self._annotations(rows, columns, problems)) if columns or is_ours else []
        annotations = _distinct(found, problems)
        problems.raise_if_any(path, annotations)
        if not annotations:
            empty = self.omissions.counts.get("row", 0) - left_out
            raise AnnotationError(f"{path} has no captions: all {empty} are empty")
        return annotations

    def _columns(self, rows: Rows, problems: Problems) -> _Columns | None:
        """The columns that the file has; None if it lacks one that it must have."""
        there = f"the columns are: {', '.join(rows.columns):.500}"
        by_name = {name.casefold(): name for name in reversed(rows.columns)} | {name: name for name in rows.columns}
        named = {
            role: by_name.get(name) or by_name.get(name.casefold(), "") for role, name in self._named.items() if name
        }
        for role, column in named.items():
            if not column:
                problems.add(rows.header_line, f"there is no column {self._named[role]!r}; {there}")
        cells = [row.cells for row in rows.rows]
        question = question_columns(rows.columns)
        video, caption = video_and_caption(rows.columns, cells)
        asked = first_of(("question",), rows.columns)
        if asked and question.columns and any(isinstance(row.get(asked), str) for row in cells):
            caption = asked
        found = {"video": named.get("video", video), "caption": named.get("caption", caption)}
        for role, usual in _USUAL.items():
            if not found[role] and role not in named:
                names = f"{', '.join(usual[:_NAMED])}, ..."
                problems.add(rows.header_line, f"no {role} column ({names}); name it by {role}_column=; {there}")
        if not all(found.values()):
            return None
        is_question = found["caption"] == asked
        split = named.get("split") or first_of(SPLIT, rows.columns)
        query_id = first_of(ID, rows.columns)
        taken = {*found.values(), split, query_id, *_WINDOWS, *(question.columns if is_question else ())}
        times = self._times(rows, named, taken, problems)
        flat = question if is_question else QuestionColumns()
        columns = _Columns(found["video"], found["caption"], split, query_id, times, flat)
        for name in look_like_times([c for c in rows.columns if c not in columns.used], cells):
            self.omissions.add("time-column", name)
        return columns

    def _times(self, rows: Rows, named: dict[str, str], taken: set[str], problems: Problems) -> Times:
        times = times_in(rows.columns, [row.cells for row in rows.rows], taken)
        start, end = (named.get(role) or getattr(times, role) for role in ("start", "end"))
        if named.get("start") or named.get("end"):
            times = Times(start, end, length="" if end else times.length, rate=times.rate)
        plain = [c for c in rows.columns if c not in taken and role_of(c)[0] in ("start", "end")]
        lone = start or end or next((c for c in plain if c.casefold() in _PLAIN_TIMES), "")
        if lone and not (times.pair or (times.start and (times.end or times.length))):
            other = "end" if role_of(lone)[0] == "start" or lone == named.get("start") else "start"
            columns = f"the columns are: {', '.join(rows.columns):.500}"
            problems.add(rows.header_line, f"column {lone!r} but no {other} column; {columns}")
            return Times()
        return times

    def _annotations(self, rows: Rows, columns: _Columns | None, problems: Problems) -> Iterator[_Found]:
        for row in rows.rows:
            try:
                if columns:
                    own_id = row.text(columns.id, "") if columns.id else ""
                    yield from [(row.line, own_id, annotation) for annotation in self._of_row(row, columns)]
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
            raise AnnotationError(f"{columns.video!r} is empty: which video does the caption belong to?")
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
                spans=of_caption,
                split=split,
                source=row.source,
                question=question,
                metadata=metadata,
            )
            for number, (caption, of_caption) in enumerate(zip(captions, spans, strict=True), 1)
            if caption
        ]


def _captions(row: Row, column: str) -> list[str]:
    """The captions of a row; empty for those that are missing."""
    value = row.cells[column]
    several = value if isinstance(value, list) else texts_in(value)
    some = [value] if several is None else several or [None]
    return ["" if is_missing(caption) else text_of(column, caption) for caption in some]


def _spans(row: Row, columns: _Columns, captions: int) -> list[Spans]:
    """The spans of each caption of a row: one list of as many times as captions gives one to each."""
    pairs = columns.times.pairs(row.cells)
    for pair in pairs:
        check_span(*pair)
    given = [
        name for name in _WINDOWS if not is_missing(row.cells.get(name)) and name not in columns.used - {*_WINDOWS}
    ]
    if given:
        if pairs or len(given) > 1:
            raise AnnotationError(f"times are given twice: {', '.join(given)}{' and start, end' if pairs else ''}")
        name = given[0]
        windows = listed(row.cells[name])
        cells = row.cells if windows is None else {**row.cells, name: windows}
        return [replace(row, cells=cells).spans(name)] * captions
    if captions == 1 or len(pairs) < 2:
        return [tuple(pairs)] * captions
    if len(pairs) != captions:
        raise AnnotationError(f"{captions} captions and {len(pairs)} times: one time for each caption is needed")
    return [(pair,) for pair in pairs]


def _question(row: Row, columns: _Columns) -> Question | None:
    """The question that a row asks, if it asks one."""
    told = row.cells.get("question")
    if isinstance(told, dict) and columns.caption != "question":
        return question_in(told)
    return flat_question(row.cells, columns.question) if columns.question.columns else None


def _metadata(row: Row, columns: _Columns) -> tuple[tuple[str, str], ...]:
    """What is in the columns that say nothing else, as text; lists and objects are left out, and so is what is blank."""
    plain = ((name, value) for name, value in row.cells.items() if name and name not in columns.used)
    pairs = ((name, str(value).strip()) for name, value in plain if isinstance(value, str | int | float))
    # pandas writes the numbers of the rows into a column without a name, and reads it as `Unnamed: 0`.
    return tuple((name, text) for name, text in pairs if text not in ("", "nan") and not name.startswith("Unnamed: "))


def _distinct(found: list[_Found], problems: Problems) -> list[Annotation]:
    said: dict[Annotation, str] = {}
    by_id: dict[str, tuple[int, Annotation]] = {}
    for line, own_id, annotation in found:
        query_id = annotation.query_id
        if not own_id:
            query_id = said.setdefault(replace(annotation, query_id="-", source="", metadata=()), query_id)
        if query_id not in by_id:
            by_id[query_id] = line, annotation
            continue
        first, same = by_id[query_id]
        if replace(annotation, query_id=query_id, source="", metadata=()) != replace(same, source="", metadata=()):
            problems.add(line, f"id {query_id!r} is already on line {first}; ids must be unique")
            continue
        both = tuple(dict.fromkeys((*same.metadata, *annotation.metadata)))
        by_id[query_id] = first, replace(same, metadata=both)
    return [annotation for _, annotation in by_id.values()]
