"""Annotations of the rows of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.datasets._reading import Problems, canonical_split, split_from_name
from vla.datasets._rows import Row, read_rows
from vla.datasets.base import Annotation
from vla.errors import AnnotationError


def annotations_of(
    path: Path,
    problems: Problems,
    rows: Iterable[Row],
    annotate: Callable[[Row], Iterable[Annotation]],
) -> list[Annotation]:
    """Return the annotations of all rows; the split is that of the row, else that in the file name.

    Raises:
        AnnotationError: there are no annotations; or there are `problems`, errors of `annotate` or
            duplicate ids.
    """
    annotations: list[Annotation] = []
    line_of: dict[str, int] = {}
    file_split = split_from_name(path)
    for row in rows:
        try:
            row_annotations = list(annotate(row))
            for annotation in row_annotations:
                if annotation.query_id in line_of:
                    first = line_of[annotation.query_id]
                    raise AnnotationError(
                        f"id {annotation.query_id!r:.60} is already on line {first}; ids are unique"
                    )
            line_of.update((annotation.query_id, row.line) for annotation in row_annotations)
            annotations += [
                _with_split(a, canonical_split(a.split) or file_split) for a in row_annotations
            ]
        except AnnotationError as error:
            problems.add(row.line, f"{row.item}: {error}" if row.item else str(error))
    problems.raise_if_any(path, annotations)
    if not annotations:
        raise AnnotationError(f"{path} holds no annotations")
    return annotations


def reader(
    annotate: Callable[[Row], Iterable[Annotation]], suffixes: Sequence[str], **form: Any
) -> Callable[[Path], list[Annotation]]:
    """Return a function that reads one file by `read_rows` (with the options `form`) and
    `annotations_of`.
    """

    def read(path: Path) -> list[Annotation]:
        problems = Problems()
        return annotations_of(
            path, problems, read_rows(path, problems, suffixes, **form).rows, annotate
        )

    return read


def _with_split(annotation: Annotation, split: str) -> Annotation:
    return annotation if annotation.split == split else replace(annotation, split=split)
