"""CSV, TSV, JSONL and JSON as rows that know their lines."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.datasets._json import NotJSONError, elements, parse
from vla.datasets.base import Problems, read_text
from vla.errors import AnnotationError

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json")

_DELIMITERS = ",;\t"
_FIELD_LIMIT = 10 * 2**20


@dataclass(frozen=True)
class Row:
    """One row. `place` is its line, told apart where several rows share one; `cells` go by column name."""

    line: int
    place: str
    cells: dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """The rows of a file, the names of its columns, and the line that names them (1 for JSON)."""

    columns: tuple[str, ...]
    header_line: int
    rows: list[Row]


def read_rows(path: Path, problems: Problems) -> Rows:
    """The rows of `path`, whose suffix says what it is; rows that cannot be read go to `problems`.

    Raises:
        AnnotationError: the file cannot be read, is empty, or is not what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise AnnotationError(f"{path}: a table of captions is one of {', '.join(SUFFIXES)}, not {suffix!r}")
    text = read_text(path)
    if not text.strip():
        raise AnnotationError(f"{path} is empty: it needs a row for each caption")
    if suffix in (".csv", ".tsv", ".txt"):
        return _from_csv(text, "\t" if suffix == ".tsv" else _delimiter(text), problems)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    values = _jsonl_values(text, problems) if suffix == ".jsonl" else _json_values(text, path)
    return _from_objects(values, problems)


def _delimiter(text: str) -> str:
    header = next(line for line in io.StringIO(text, newline="") if line.strip())
    return max(_DELIMITERS, key=header.count)


def _from_csv(text: str, delimiter: str, problems: Problems) -> Rows:
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        records = list(_records(text, delimiter, problems))
    finally:
        csv.field_size_limit(limit)
    if not records:
        return Rows((), 1, [])
    header_line, header = records[0]
    columns = tuple(name.strip() for name in header)
    for name, count in Counter(name.casefold() for name in columns if name).items():
        if count > 1:
            problems.add(header_line, f"column {name!r} is there {count} times; every column needs its own name")
    rows = []
    for line, fields in records[1:]:
        if len(fields) == len(columns):
            rows.append(Row(line, str(line), dict(zip(columns, fields, strict=True))))
        else:
            problems.add(
                line,
                f"the header has {len(columns)} fields and this row {len(fields)}; quote those that hold {delimiter!r}",
            )
    return Rows(columns, header_line, rows)


def _records(text: str, delimiter: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    # newline="" splits at \n, \r\n and a lone \r as they stand; str.splitlines would also split inside captions.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(line, f"{error}; is a quote opened and not closed? What follows could not be read")
            return
        if any(field.strip() for field in fields):
            yield line, fields


def _jsonl_values(text: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    for line, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        try:
            value = parse(written)
        except NotJSONError as error:
            problems.add(line, str(error))
        else:
            yield line, value


def _json_values(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    try:
        whole = parse(text)
    except NotJSONError as error:
        raise AnnotationError(f"{path} line {error.line}: {error}") from error
    if not isinstance(whole, list):
        raise AnnotationError(f"{path} must hold a list of objects, one for each caption, not one {_kind(whole)}")
    return ((line, value) for _, line, value in elements(text))


def _from_objects(values: Iterator[tuple[int, Any]], problems: Problems) -> Rows:
    rows: list[Row] = []
    columns: dict[str, None] = {}
    on_line: Counter[int] = Counter()
    for line, value in values:
        on_line[line] += 1
        if not isinstance(value, dict):
            problems.add(line, f"an object is wanted here, not one {_kind(value)}")
            continue
        columns.update(dict.fromkeys(value))
        rows.append(Row(line, str(line) if on_line[line] == 1 else f"{line}.{on_line[line]}", value))
    return Rows(tuple(columns), 1, rows)


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", type(None): "null"}
    return names.get(type(value), "number")
