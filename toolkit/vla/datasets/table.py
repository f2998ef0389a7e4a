"""Reader of captions in tables: CSV, TSV, JSONL, or a JSON list of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from vla.datasets._pairs import parse_list, parse_texts
from vla.datasets._questions import flat_question, question_from_object
from vla.datasets._reading import Problems, read_each
from vla.datasets._rows import Row, Rows, read_rows, text_of
from vla.datasets._table_columns import WINDOWS, TableColumns, table_columns
from vla.datasets._times import Spans, check_span, is_missing
from vla.datasets.base import Annotation, Question
from vla.errors import AnnotationError
from vla.omissions import Omissions

# `vla import` writes all of these fields, and the other fields of an annotation if they are not
# empty.
_ANNOTATION_FIELDS = frozenset(("query_id", "query", "video", "spans", "split", "source"))
# Line, id in the row, annotation.
_ParsedRow = tuple[int, str, Annotation]


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
        columns = (
            table_columns(rows, self._column_names, problems) if rows.rows and not is_ours else None
        )
        for name in columns.unused_times(rows) if columns else ():
            self.omissions.add("time-column", name)
        skipped_before = self.omissions.counts.get("row", 0)
        parsed_rows = list(self._annotations(rows, columns, problems)) if columns or is_ours else []
        annotations = _deduplicate(parsed_rows, problems)
        problems.raise_if_any(path, annotations)
        if not annotations:
            num_empty = self.omissions.counts.get("row", 0) - skipped_before
            raise AnnotationError(f"{path} has no captions: all {num_empty} are empty")
        return annotations

    def _annotations(
        self, rows: Rows, columns: TableColumns | None, problems: Problems
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

    def _of_row(self, row: Row, columns: TableColumns) -> list[Annotation]:
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


def _spans(row: Row, columns: TableColumns, captions: int) -> list[Spans]:
    """Return the spans of each caption of a row: one each if there are as many times as captions."""
    pairs = columns.times.pairs(row.cells)
    for pair in pairs:
        check_span(*pair)
    names = [name for name in WINDOWS if not is_missing(row.cells.get(name))]
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


def _question(row: Row, columns: TableColumns) -> Question | None:
    """Return the question of a row; None if it is a caption."""
    record = row.cells.get("question")
    if isinstance(record, dict) and columns.caption != "question":
        return question_from_object(record)
    return flat_question(row.cells, columns.question) if columns.question.columns else None


def _metadata(row: Row, columns: TableColumns) -> tuple[tuple[str, str], ...]:
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
