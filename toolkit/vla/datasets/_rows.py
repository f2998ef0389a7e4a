"""CSV, TSV, JSONL and JSON as rows that know their lines, and what a row says as annotations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla.datasets._csv import delimiter_of, records_of
from vla.datasets._json import NotJSONError, elements, kind_of, members, parse, parse_file, require_room
from vla.datasets._reading import Problems, read_text, split_named, split_of
from vla.datasets._times import Spans, check_span, seconds
from vla.datasets.base import Annotation
from vla.errors import AnnotationError

_MOST_OTHERS = 1000
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json")


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        path: the file.
        line: where it begins.
        place: its line, told apart where several rows share one; or what the file calls it.
        cells: values by column name.
        item: what messages call it beside its line, where a line holds more than one.
    """

    path: Path
    line: int
    place: str
    cells: dict[str, Any]
    item: str = ""

    @property
    def id(self) -> str:
        """A query id for a row that brings none."""
        return f"{self.path.stem}:{self.place}"

    @property
    def source(self) -> str:
        """`file:line`."""
        return f"{self.path.name}:{self.line}"

    def text(self, name: str, default: str | None = None) -> str:
        """The text or number there, without blanks around it; `default`, if there is one, for none or a blank one."""
        value = self.cells.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            if default is not None:
                return default
            raise AnnotationError(f"{name!r} is empty" if name in self.cells else f"no {name!r} here")
        return text_of(name, value)

    def whole(self, name: str) -> int:
        """The whole number there, from 0."""
        value = self.text(name)
        if not re.fullmatch("[0-9]{1,9}", value):
            raise AnnotationError(f"{name!r} must be a whole number, not {value!r:.60}")
        return int(value)

    def seconds(self, name: str) -> float | None:
        """The time there; None where there is none."""
        return seconds(self.cells[name]) if self.cells.get(name) not in (None, "") else None

    def span(self, name: str) -> Spans:
        """The one `[start, end]` there."""
        pair = self.cells.get(name)
        if not isinstance(pair, list) or len(pair) != 2:
            raise AnnotationError(f"{name!r} must be [start, end], not {pair!r:.60}")
        return _spans([pair])

    def spans(self, name: str) -> Spans:
        """The list of `[start, end]` there; no spans where there is none."""
        windows = self.cells.get(name)
        if windows in (None, ""):
            return ()
        if not isinstance(windows, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in windows):
            raise AnnotationError(f"{name!r} must be a list of [start, end], not {windows!r:.60}")
        return _spans(windows)


@dataclass(frozen=True)
class Rows:
    """The rows of a file, the names of its columns, and the line that names them (1 for JSON)."""

    columns: tuple[str, ...]
    header_line: int
    rows: list[Row]


def annotations_of(
    path: Path, problems: Problems, rows: Iterable[Row], annotate: Callable[[Row], Iterable[Annotation]]
) -> list[Annotation]:
    """What `annotate` makes of each row of a benchmark's file, with a split: the row's own, else what the file's name tells.

    Raises:
        AnnotationError: there is nothing, or `problems`, those that `annotate` raised, and ids that are there twice.
    """
    found: list[Annotation] = []
    line_of: dict[str, int] = {}
    by_name = split_of(path)
    for row in rows:
        try:
            some = list(annotate(row))
            for annotation in some:
                if annotation.query_id in line_of:
                    first = line_of[annotation.query_id]
                    raise AnnotationError(f"id {annotation.query_id!r:.60} is already on line {first}; ids are unique")
            line_of.update((annotation.query_id, row.line) for annotation in some)
            found += [_with_split(a, split_named(a.split) or by_name) for a in some]
        except AnnotationError as error:
            problems.add(row.line, f"{row.item}: {error}" if row.item else str(error))
    problems.raise_if_any(path, found)
    if not found:
        raise AnnotationError(f"{path} holds no annotations")
    return found


def reader(
    annotate: Callable[[Row], Iterable[Annotation]], suffixes: Sequence[str], **form: Any
) -> Callable[[Path], list[Annotation]]:
    """What reads one file of a benchmark: `annotations_of` its `read_rows`, with the same errors. `form` is for those."""

    def read(path: Path) -> list[Annotation]:
        problems = Problems()
        return annotations_of(path, problems, read_rows(path, problems, suffixes, **form).rows, annotate)

    return read


def read_rows(
    path: Path,
    problems: Problems,
    suffixes: Sequence[str] = SUFFIXES,
    *,
    columns: Sequence[str] = (),
    delimiter: str = "",
    quoted: bool = True,
) -> Rows:
    """The rows of `path`, whose suffix says what it is; rows that cannot be read go to `problems`.

    Args:
        path: the file.
        problems: where faults go.
        suffixes: those that it may have.
        columns: names of the columns of a CSV file that begins without them.
        delimiter: between fields of a CSV file; what its first line has most of, when empty.
        quoted: fields of a CSV file may be in quotes.

    Raises:
        AnnotationError: the file cannot be read, is empty, or is not what its suffix says.
    """
    text = text_with(path, suffixes)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        parted = delimiter or delimiter_of(text, "\t" if suffix == ".tsv" else "")
        return _from_csv(path, text, parted, tuple(columns), quoted, problems)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if suffix == ".jsonl":
        require_room(path, text)
        return from_objects(path, _jsonl_values(text, problems), problems)
    kind = kind_of(parse_file(text, path))
    if kind != "list":
        raise AnnotationError(f"{path} must hold a list of objects, one for each caption, not one {kind}")
    return from_objects(path, ((line, value) for _, line, value in elements(text)), problems)


def read_members(
    path: Path, problems: Problems, suffixes: Sequence[str] = (".json",)
) -> Iterator[tuple[str, int, Any]]:
    """`(name, line, value)` of each member of the JSON object in `path`; names that are there twice go to `problems`.

    Raises:
        AnnotationError: the file cannot be read, is empty, or holds no JSON object.
    """
    text = text_with(path, suffixes).replace("\r\n", "\n").replace("\r", "\n")
    kind = kind_of(parse_file(text, path))
    if kind != "object":
        raise AnnotationError(f"{path} must hold an object with a member for each video, not one {kind}")
    lines: dict[str, int] = {}
    for name, _, line, value in members(text):
        if name in lines:
            problems.add(line, f"{name!r:.60} is already on line {lines[name]}")
        else:
            lines[name] = line
            yield name, line, value


def from_objects(path: Path, values: Iterable[tuple[int, Any]], problems: Problems) -> Rows:
    """Rows of JSON values with their lines; those that are no objects go to `problems`."""
    listed: list[tuple[int, Any]] = []
    is_table = False
    for line, value in values:
        listed.append((line, value))
        is_table = is_table or isinstance(value, dict)
        if not is_table and len(listed) == _MOST_OTHERS:
            raise AnnotationError(f"{path} lists no objects: its first {_MOST_OTHERS} elements are not one {{...}}")
    shared = Counter(line for line, _ in listed)
    rows: list[Row] = []
    columns: dict[str, None] = {}
    on_line: Counter[int] = Counter()
    for number, (line, value) in enumerate(listed, 1):
        on_line[line] += 1
        item = f"item {number}" if shared[line] > 1 else ""
        if not isinstance(value, dict):
            told = f"an object is wanted here, not one {kind_of(value)}"
            problems.add(line, f"{item}: {told}" if item else told)
            continue
        columns.update(dict.fromkeys(value))
        place = str(line) if on_line[line] == 1 else f"{line}.{on_line[line]}"
        rows.append(Row(path, line, place, value, item))
    return Rows(tuple(columns), 1, rows)


def text_with(path: Path, suffixes: Sequence[str]) -> str:
    """The text of a file with one of these suffixes, which is not blank; raises AnnotationError otherwise."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise AnnotationError(f"{path}: annotations of this kind are in {', '.join(suffixes)}, not {suffix!r}")
    text = read_text(path)
    if not text.strip():
        raise AnnotationError(f"{path} is empty: it needs a row for each caption")
    return text


def text_of(name: str, value: object) -> str:
    """The text or number as text; raises AnnotationError for anything else."""
    if value is None or isinstance(value, bool | list | dict):
        raise AnnotationError(f"{name!r} must be text, not {value!r:.60}")
    return str(value).strip()


def _spans(pairs: list[list[object]]) -> Spans:
    spans = tuple((seconds(first), seconds(last)) for first, last in pairs)
    for span in spans:
        check_span(*span)
    return spans


def _with_split(annotation: Annotation, split: str) -> Annotation:
    return annotation if annotation.split == split else replace(annotation, split=split)


def _from_csv(
    path: Path, text: str, delimiter: str, columns: tuple[str, ...], quoted: bool, problems: Problems
) -> Rows:
    require_room(path, text, {"\n" if "\n" in text else "\r": 1100, delimiter: 100})
    records = list(records_of(text, delimiter, quoted, problems))
    header_line, is_named = 1, bool(columns)
    if not is_named and records:
        header_line, header = records.pop(0)
        columns = tuple(name.strip() for name in header)
        for name, count in Counter(name.casefold() for name in columns if name).items():
            if count > 1:
                problems.add(header_line, f"column {name!r} is there {count} times; every column needs its own name")
    rows = []
    for line, fields in records:
        if len(fields) == len(columns):
            rows.append(Row(path, line, str(line), dict(zip(columns, fields, strict=True))))
        else:
            wanted = f"{len(columns)} fields are wanted" if is_named else f"the header has {len(columns)} fields"
            advice = f"; quote those that hold {delimiter!r}" if quoted else ""
            problems.add(line, f"{wanted} and this row {len(fields)}{advice}")
    return Rows(columns, header_line, rows)


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
