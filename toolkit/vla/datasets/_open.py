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


def dataset_for(path: Path, format: str | None = None, **columns: str) -> Dataset:
    """The reader called `format`, else the one for the suffix of `path`.

    Args:
        path: the file.
        format: a name on the shelf `datasets`; only a table, SubRip and WebVTT are known by their suffix.
        columns: options of the table reader; empty ones count as not given.

    Raises:
        AnnotationError: no reader takes such a suffix.
        UnknownNameError: no reader is called so.
        UsageError: the reader has no such option.
    """
    name = format or _READERS.get(path.suffix.lower())
    if name is None:
        raise AnnotationError(f"{path}: captions are read from {', '.join(_READERS)}, not from {path.suffix!r}")
    return cast(Dataset, registry.build(name, {key: value for key, value in columns.items() if value}))


def read_annotations(path: Path, format: str | None = None, **columns: str) -> list[Annotation]:
    """Every annotation of the file: `dataset_for(path, format, **columns).read(path)`.

    Raises:
        AnnotationError: no reader takes such a suffix, or the file cannot be used; one error names all its faults.
        UnknownNameError: no reader is called so.
        UsageError: the reader has no such option.
    """
    return dataset_for(path, format, **columns).read(path)
