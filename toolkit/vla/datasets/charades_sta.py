"""Reader of Charades-STA: one moment of a household video per sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import Problems, read_each
from vla.datasets._row_annotations import annotations_of, reader
from vla.datasets._rows import Row, read_rows, read_with_suffix
from vla.datasets._times import seconds, spans_of
from vla.datasets.base import Annotation
from vla.errors import AnnotationError

_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)\s*##(.*)")


class Dataset:
    """Reader of `ID start end##sentence` lines, or of Lighthouse's JSONL.

    The lines lack the durations of the videos; they are read from `id` and `length` of Charades'
    own CSV, if it is passed as well.

    Source: Gao et al. 2017, github.com/jiyanggao/TALL.
    """

    files: ClassVar[str] = (
        "charades_sta_{train,test}.txt, and with it Charades_v1_{train,test}.csv; or "
        "Lighthouse's JSONL"
    )

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each sentence.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        tables = [path for path in paths if path.suffix.lower() == ".csv"]
        durations = {video: length for path in tables for video, length in _durations(path)}
        return read_each([path for path in paths if path not in tables], _reader(durations))


def _reader(durations: dict[str, float]) -> Callable[[Path], list[Annotation]]:
    def read(path: Path) -> list[Annotation]:
        if path.suffix.lower() == ".jsonl":
            return reader(_of_object, (".jsonl",))(path)
        return annotations_of(
            path, Problems(), _lines(path), lambda row: [_of_line(row, durations)]
        )

    return read


def _durations(path: Path) -> Iterator[tuple[str, float]]:
    problems = Problems()
    for row in read_rows(path, problems, (".csv",)).rows:
        try:
            yield row.text("id"), seconds(row.text("length"))
        except AnnotationError as error:
            problems.add(row.line, str(error))
    problems.raise_if_any(path)


def _lines(path: Path) -> Iterator[Row]:
    text = read_with_suffix(path, (".txt", ".jsonl")).replace("\r\n", "\n").replace("\r", "\n")
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            yield Row(path, line, str(line), {"line": content.strip()})


def _of_line(row: Row, durations: dict[str, float]) -> Annotation:
    match = _LINE.fullmatch(row.cells["line"])
    if match is None:
        raise AnnotationError(
            f"a line must be 'ID start end##sentence', not {row.cells['line']!r:.60}"
        )
    video, start, end, sentence = match.groups()
    return Annotation(
        row.id,
        sentence.strip(),
        video,
        spans_of(start, end),
        source=row.source,
        duration=durations.get(video),
    )


def _of_object(row: Row) -> list[Annotation]:
    spans, duration = row.spans("relevant_windows"), row.seconds("duration")
    annotation = Annotation(
        row.text("qid"), row.text("query"), row.text("vid"), spans, "", row.source, duration
    )
    return [annotation]
