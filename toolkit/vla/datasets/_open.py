"""The reader that a captions file's suffix asks for."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from vla.datasets import registry
from vla.datasets.base import Annotation, Dataset
from vla.errors import AnnotationError

_READERS = {
    ".csv": "table",
    ".tsv": "table",
    ".jsonl": "table",
    ".json": "table",
    ".srt": "subtitles",
    ".vtt": "subtitles",
}


def dataset_for(path: Path, **columns: str) -> Dataset:
    """The reader for `path`. `columns` are options of the table reader; empty ones count as not given.

    Raises:
        AnnotationError: no reader takes such a suffix.
        UsageError: the reader has no such option.
    """
    name = _READERS.get(path.suffix.lower())
    if name is None:
        raise AnnotationError(f"{path}: captions are read from {', '.join(_READERS)}, not from {path.suffix!r}")
    return cast(Dataset, registry.build(name, {key: value for key, value in columns.items() if value}))


def read_annotations(path: Path, **columns: str) -> list[Annotation]:
    """Every annotation of the file, read as its suffix asks: `dataset_for(path, **columns).read(path)`.

    Raises:
        AnnotationError: no reader takes such a suffix, or the file cannot be used; one error names all its faults.
        UsageError: the reader has no such option.
    """
    return dataset_for(path, **columns).read(path)
