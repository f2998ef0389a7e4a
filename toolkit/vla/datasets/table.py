"""Captions in a table of any origin: CSV, TSV, JSONL, or JSON that is a list of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import Problems, read_each
from vla.datasets._rows import Row, Rows, read_rows, text_of
from vla.datasets._times import Spans, spans_of
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError

# The first of each that a file has is taken. Narrow names of an id come first: a bare `id` may number the videos.
_KNOWN = {
    "video": ("video", "video_id", "vid", "path", "file", "filename", "url", "name", "video_name"),
    "caption": ("caption", "text", "sentence", "description", "query", "desc"),
    "start": ("start", "start_time", "st"),
    "end": ("end", "end_time", "et"),
    "split": ("split", "subset"),
    "id": ("query_id", "qid", "sen_id", "id"),
}
_REQUIRED = ("video", "caption")
_WINDOWS = ("relevant_windows", "spans")
# What `vla import` writes has all of these, and whatever else an annotation holds.
_OURS = frozenset(("query_id", "query", "video", "spans", "split", "source"))

# Line, the id that the row itself has, and what it says.
_Found = tuple[int, str, Annotation]


class Dataset:
    """Reads a table with a row for each caption; columns are found by their usual names unless they are named here.

    A row without start and end tells of the whole video. JSON rows may have `relevant_windows` or `spans`, a list of
    `[start, end]`, instead, and a list of captions; with an object `question` (`choices` and `right`, or `answers`, or
    `count`) what is in the caption's column is a question. Rows that say the same, under no id or the same, are one annotation.
    Texts and numbers in other columns are its metadata.
    Rows as `Annotation.to_json` writes them come back whole, only with where they were read for a `source`.

    Attributes:
        dropped_empty: how many captions of the file last read were empty and left out.
    """

    files: ClassVar[str] = "any CSV, TSV, JSONL or JSON list with a row for each caption; what `vla import` wrote"

    def __init__(
        self,
        *,
        video_column: str = "",
        caption_column: str = "",
        start_column: str = "",
        end_column: str = "",
        split_column: str = "",
    ) -> None:
        self.dropped_empty = 0
        self._named = {
            "video": video_column,
            "caption": caption_column,
            "start": start_column,
            "end": end_column,
            "split": split_column,
            "id": "",
        }

    def read(self, *paths: Path) -> list[Annotation]:
        """Every annotation of the files, in their order.

        Raises:
            AnnotationError: a file cannot be read, has no captions, or holds faults; one error names them all.
        """
        self.dropped_empty = 0
        return read_each(paths, self._read)

    def _read(self, path: Path) -> list[Annotation]:
        problems = Problems()
        rows = read_rows(path, problems)
        if not rows.rows and not problems:
            header = f"a header ({', '.join(rows.columns):.500}) but " if rows.columns else ""
            raise AnnotationError(f"{path} has {header}no rows: it needs one for each caption")
        is_ours = not any(self._named.values()) and any(row.cells.keys() >= _OURS for row in rows.rows)
        columns = self._columns(rows, problems) if rows.rows and not is_ours else {}
        found = list(self._annotations(rows, columns, problems)) if columns or is_ours else []
        annotations = _distinct(found, problems)
        problems.raise_if_any(path, annotations)
        if not annotations:
            raise AnnotationError(f"{path} has no captions: all {self.dropped_empty} are empty")
        return annotations

    def _columns(self, rows: Rows, problems: Problems) -> dict[str, str]:
        """The column of each role that the file has; nothing at all if it lacks one that it must have."""
        by_name = {name.casefold(): name for name in reversed(rows.columns)} | {name: name for name in rows.columns}
        there = f"the columns are: {', '.join(rows.columns):.500}"
        columns: dict[str, str] = {}
        for role, usual in _KNOWN.items():
            wanted = self._named[role]
            names = (wanted, wanted.casefold()) if wanted else usual
            found = next((by_name[name] for name in names if name in by_name), "")
            if found:
                columns[role] = found
            elif wanted:
                problems.add(rows.header_line, f"there is no column {wanted!r}; {there}")
            elif role in _REQUIRED:
                problems.add(
                    rows.header_line, f"no {role} column ({', '.join(usual)}); name it by {role}_column; {there}"
                )
        for role, other in (("start", "end"), ("end", "start")):
            if role in columns and other not in columns:
                problems.add(rows.header_line, f"column {columns.pop(role)!r} but no {other} column; {there}")
        return columns if all(role in columns for role in _REQUIRED) else {}

    def _annotations(self, rows: Rows, columns: dict[str, str], problems: Problems) -> Iterator[_Found]:
        for row in rows.rows:
            try:
                if columns:
                    own_id = _cell(row, columns, "id")
                    yield from [(row.line, own_id, annotation) for annotation in self._of_row(row, columns)]
                else:
                    annotation = Annotation.from_json({**row.cells, "source": row.source})
                    yield row.line, annotation.query_id, annotation
            except AnnotationError as error:
                problems.add(row.line, f"{row.item}: {error}" if row.item else str(error))

    def _of_row(self, row: Row, columns: dict[str, str]) -> list[Annotation]:
        for role in _REQUIRED:
            if columns[role] not in row.cells:
                raise AnnotationError(f"no {columns[role]!r} here")
        video = _cell(row, columns, "video")
        if not video:
            raise AnnotationError(f"{columns['video']!r} is empty: which video does the caption belong to?")
        spans, split = _spans(row, columns), _cell(row, columns, "split")
        query_id = _cell(row, columns, "id") or row.id
        written = row.cells[columns["caption"]]
        listed = (written or [None]) if isinstance(written, list) else [written]
        question, metadata = _question(row, columns), _metadata(row, columns)
        captions = ["" if caption is None else text_of(columns["caption"], caption) for caption in listed]
        self.dropped_empty += captions.count("")
        return [
            Annotation(
                query_id=query_id if len(captions) == 1 else f"{query_id}#{number}",
                query=caption,
                video=video,
                spans=spans,
                split=split,
                source=row.source,
                question=question,
                metadata=metadata,
            )
            for number, caption in enumerate(captions, 1)
            if caption
        ]


def _spans(row: Row, columns: dict[str, str]) -> Spans:
    start, end = (row.cells.get(columns[role]) if role in columns else None for role in ("start", "end"))
    span = spans_of(start, end)
    given = [name for name in _WINDOWS if row.cells.get(name) not in (None, "") and name not in columns.values()]
    if not given:
        return span
    if span or len(given) > 1:
        raise AnnotationError(f"times are given twice: {', '.join(given)}{' and start, end' if span else ''}")
    return row.spans(given[0])


def _question(row: Row, columns: dict[str, str]) -> Question | None:
    """What a row of JSON says in `question`: choices and the right one, or answers, or a count. Its text is the caption."""
    told = row.cells.get("question")
    if not isinstance(told, dict) or "question" in columns.values():
        return None
    try:
        return Question.from_json(told)
    except TypeError as error:
        names = ", ".join(f.name for f in fields(Question))
        raise AnnotationError(f"'question' holds {', '.join(map(repr, told))}, and not some of {names}") from error


def _metadata(row: Row, columns: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What is in the columns that say nothing else, as text; lists and objects are left out, and so is what is blank."""
    used = {*columns.values(), *_WINDOWS}
    plain = ((name, value) for name, value in row.cells.items() if name and name not in used)
    pairs = ((name, str(value).strip()) for name, value in plain if isinstance(value, str | int | float))
    return tuple((name, text) for name, text in pairs if text)


def _cell(row: Row, columns: dict[str, str], role: str) -> str:
    return row.text(columns[role], "") if role in columns else ""


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
