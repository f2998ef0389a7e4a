"""Rows of CSV, TSV, JSONL and JSON files with their line numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.datasets._csv import delimiter_of, records_of
from vla.datasets._json import (
    NotJSONError,
    elements,
    kind_of,
    members,
    parse,
    parse_file,
    require_room,
)
from vla.datasets._reading import Problems, read_text
from vla.datasets._times import Spans, check_span, seconds
from vla.errors import AnnotationError

_MAX_NON_OBJECTS = 1000
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json")


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        path: the file.
        line: first line of the row, from 1.
        position: the line, with a suffix if several rows share it; or the key of the row in the
            file.
        cells: values by column name.
        item: label for messages if a line holds several rows.
    """

    path: Path
    line: int
    position: str
    cells: dict[str, Any]
    item: str = ""

    @property
    def id(self) -> str:
        """Query id of a row that has no id column."""
        return f"{self.path.stem}:{self.position}"

    @property
    def source(self) -> str:
        """`file:line`."""
        return f"{self.path.name}:{self.line}"

    def text(self, name: str, default: str | None = None) -> str:
        """Return a cell as stripped text; `default`, if given, replaces a missing or blank cell."""
        value = self.cells.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            if default is not None:
                return default
            raise AnnotationError(
                f"{name!r} is empty" if name in self.cells else f"no {name!r} here"
            )
        return text_of(name, value)

    def integer(self, name: str) -> int:
        """Return a cell as an integer from 0."""
        value = self.text(name)
        if not re.fullmatch("[0-9]{1,9}", value):
            raise AnnotationError(f"{name!r} must be a whole number, not {value!r:.60}")
        return int(value)

    def seconds(self, name: str) -> float | None:
        """Return a cell as seconds; None if it is missing."""
        return seconds(self.cells[name]) if self.cells.get(name) not in (None, "") else None

    def span(self, name: str) -> Spans:
        """Return the single `[start, end]` in a cell."""
        pair = self.cells.get(name)
        if not isinstance(pair, list) or len(pair) != 2:
            raise AnnotationError(f"{name!r} must be [start, end], not {pair!r:.60}")
        return _spans([pair])

    def spans(self, name: str) -> Spans:
        """Return the list of `[start, end]` in a cell; empty if it is missing."""
        windows = self.cells.get(name)
        if windows in (None, ""):
            return ()
        if not isinstance(windows, list) or not all(
            isinstance(pair, list) and len(pair) == 2 for pair in windows
        ):
            raise AnnotationError(f"{name!r} must be a list of [start, end], not {windows!r:.60}")
        return _spans(windows)


@dataclass(frozen=True)
class Rows:
    """Rows of a file, its column names, and the line of the header (1 for JSON)."""

    columns: tuple[str, ...]
    header_line: int
    rows: list[Row]


def read_rows(
    path: Path,
    problems: Problems,
    suffixes: Sequence[str] = SUFFIXES,
    *,
    columns: Sequence[str] = (),
    delimiter: str = "",
    has_quotes: bool = True,
) -> Rows:
    """Return the rows of a file; its suffix determines the format. Unreadable rows are added to
    `problems`.

    Args:
        path: the file.
        problems: receives the faults.
        suffixes: allowed suffixes.
        columns: column names of a CSV file without a header.
        delimiter: field delimiter of a CSV file; if empty, the most frequent one of the first line.
        has_quotes: whether fields of a CSV file may be quoted.

    Raises:
        AnnotationError: the file cannot be read, is empty, or does not match its suffix.
    """
    text = read_with_suffix(path, suffixes)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        separator = delimiter or delimiter_of(text, "\t" if suffix == ".tsv" else "")
        return _from_csv(path, text, separator, tuple(columns), has_quotes, problems)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if suffix == ".jsonl":
        require_room(path, text)
        return from_objects(path, _jsonl_values(text, problems), problems)
    kind = kind_of(parse_file(text, path))
    if kind != "list":
        raise AnnotationError(
            f"{path} must hold a list of objects, one for each caption, not one {kind}"
        )
    return from_objects(path, ((line, value) for _, line, value in elements(text)), problems)


def read_members(
    path: Path, problems: Problems, suffixes: Sequence[str] = (".json",)
) -> Iterator[tuple[str, int, Any]]:
    """Yield `(name, line, value)` of each member of the JSON object in `path`; duplicates are
    added to `problems`.

    Raises:
        AnnotationError: the file cannot be read, is empty, or is not a JSON object.
    """
    text = read_with_suffix(path, suffixes).replace("\r\n", "\n").replace("\r", "\n")
    kind = kind_of(parse_file(text, path))
    if kind != "object":
        raise AnnotationError(
            f"{path} must hold an object with a member for each video, not one {kind}"
        )
    lines: dict[str, int] = {}
    for name, _, line, value in members(text):
        if name in lines:
            problems.add(line, f"{name!r:.60} is already on line {lines[name]}")
        else:
            lines[name] = line
            yield name, line, value


def from_objects(path: Path, values: Iterable[tuple[int, Any]], problems: Problems) -> Rows:
    """Return the rows of JSON values with line numbers; values other than objects are added to
    `problems`.
    """
    items: list[tuple[int, Any]] = []
    is_table = False
    for line, value in values:
        items.append((line, value))
        is_table = is_table or isinstance(value, dict)
        if not is_table and len(items) == _MAX_NON_OBJECTS:
            raise AnnotationError(
                f"{path} is not a list of objects: none of the first {_MAX_NON_OBJECTS} elements is"
            )
    items_per_line = Counter(line for line, _ in items)
    rows: list[Row] = []
    columns: dict[str, None] = {}
    count_on_line: Counter[int] = Counter()
    for number, (line, value) in enumerate(items, 1):
        count_on_line[line] += 1
        item = f"item {number}" if items_per_line[line] > 1 else ""
        if not isinstance(value, dict):
            message = f"expected an object, not a {kind_of(value)}"
            problems.add(line, f"{item}: {message}" if item else message)
            continue
        columns.update(dict.fromkeys(value))
        position = str(line) if count_on_line[line] == 1 else f"{line}.{count_on_line[line]}"
        rows.append(Row(path, line, position, value, item))
    return Rows(tuple(columns), 1, rows)


def read_with_suffix(path: Path, suffixes: Sequence[str]) -> str:
    """Return the text of a file with one of these suffixes; raises AnnotationError if it is blank."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise AnnotationError(
            f"{path}: annotations of this kind are in {', '.join(suffixes)}, not {suffix!r}"
        )
    text = read_text(path)
    if not text.strip():
        raise AnnotationError(f"{path} is empty: it needs a row for each caption")
    return text


def text_of(name: str, value: object) -> str:
    """Return a text or number as text; raises AnnotationError for any other value."""
    if value is None or isinstance(value, bool | list | dict):
        raise AnnotationError(f"{name!r} must be text, not {value!r:.60}")
    return str(value).strip()


def _spans(pairs: list[list[object]]) -> Spans:
    spans = tuple((seconds(first), seconds(last)) for first, last in pairs)
    for span in spans:
        check_span(*span)
    return spans


def _from_csv(
    path: Path,
    text: str,
    delimiter: str,
    columns: tuple[str, ...],
    has_quotes: bool,
    problems: Problems,
) -> Rows:
    require_room(path, text, {"\n" if "\n" in text else "\r": 1100, delimiter: 100})
    records = list(records_of(text, delimiter, has_quotes, problems))
    header_line, is_named = 1, bool(columns)
    if not is_named and records:
        header_line, header = records.pop(0)
        columns = tuple(name.strip() for name in header)
        for name, count in Counter(name.casefold() for name in columns if name).items():
            if count > 1:
                problems.add(
                    header_line,
                    f"column {name!r} is there {count} times; every column needs its own name",
                )
    rows = []
    for line, fields in records:
        if len(fields) == len(columns):
            rows.append(Row(path, line, str(line), dict(zip(columns, fields, strict=True))))
        else:
            problem = (
                f"expected {len(columns)} fields"
                if is_named
                else f"the header has {len(columns)} fields"
            )
            advice = f"; quote those that hold {delimiter!r}" if has_quotes else ""
            problems.add(line, f"{problem} and this row {len(fields)}{advice}")
    return Rows(columns, header_line, rows)


def _jsonl_values(text: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    for line, source in enumerate(text.split("\n"), 1):
        if not source.strip():
            continue
        try:
            value = parse(source)
        except NotJSONError as error:
            problems.add(line, str(error))
        else:
            yield line, value
