"""Selection of the reader for a captions file, and the limit on the length of captions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from vla.datasets import registry
from vla.datasets._reading import OtherContentError
from vla.datasets.base import Annotation, Dataset
from vla.errors import AnnotationError
from vla.omissions import Omissions

MAX_CAPTION_CHARS = 10_000
"""Characters. Encoders read a few hundred; longer texts are documents, and splitting them into
sentences takes minutes.
"""

_READERS = {
    ".csv": "table",
    ".tsv": "table",
    ".jsonl": "table",
    ".json": "table",
    ".srt": "subtitles",
    ".vtt": "subtitles",
    ".ass": "subtitles",
    ".ssa": "subtitles",
}


def build_reader(path: Path, format: str | None = None, **columns: str) -> Dataset:
    """Build the reader called `format`, else the one for the suffix of `path`.

    Args:
        path: the file.
        format: name of a reader in `vla.datasets`; only tables and subtitles are recognized by
            their suffix.
        columns: options of the table reader; empty values are ignored.

    Raises:
        AnnotationError: no reader supports the suffix.
        UnknownNameError: no reader has this name.
        UsageError: the reader has no such option.
    """
    name = format or _READERS.get(path.suffix.lower())
    if name is None:
        raise AnnotationError(
            f"{path}: captions are read from {', '.join(_READERS)}, not from {path.suffix!r}"
        )
    return cast(
        Dataset, registry.build(name, {key: value for key, value in columns.items() if value})
    )


def read_annotations(
    path: Path, format: str | None = None, omissions: Omissions | None = None, **columns: str
) -> list[Annotation]:
    """Return all annotations of a file.

    Args:
        path: the file.
        format: see `build_reader`.
        omissions: receives the counts of skipped content.
        columns: see `build_reader`.

    Raises:
        AnnotationError: no reader supports the suffix, or the file is invalid; one error lists all
            faults.
        UnknownNameError: no reader has this name.
        UsageError: the reader has no such option.
    """
    return read_files(
        build_reader(path, format, **columns),
        [path],
        Omissions() if omissions is None else omissions,
    )


def read_files(dataset: Dataset, paths: Iterable[Path], omissions: Omissions) -> list[Annotation]:
    """Return the annotations that `dataset` reads; skipped rows and overlong captions are counted
    in `omissions`.

    Raises:
        AnnotationError: as for `dataset.read`; or all captions are too long.
    """
    files = list(paths)
    annotations = dataset.read(*files)
    omissions.merge(getattr(dataset, "omissions", Omissions()))
    return _within_length(annotations, omissions, files)


def read_sidecar(path: Path, video: str, omissions: Omissions) -> list[Annotation]:
    """Return the captions of a sidecar file of a video; a file without captions is counted and
    gives none.

    Raises:
        AnnotationError: the file is invalid; it is counted as well.
    """
    try:
        return read_files(
            cast(Dataset, registry.build("sidecar", {"video": video})), [path], omissions
        )
    except AnnotationError as error:
        omissions.add("captions-file", path.name)
        if isinstance(error, OtherContentError):
            return []
        raise


def _within_length(
    annotations: list[Annotation], omissions: Omissions, paths: list[Path]
) -> list[Annotation]:
    valid = []
    for annotation in annotations:
        if len(annotation.query) <= MAX_CAPTION_CHARS:
            valid.append(annotation)
        else:
            omissions.add("row", f"{annotation.source}: {len(annotation.query):,} characters")
    if annotations and not valid:
        names = ", ".join(map(str, paths))
        raise AnnotationError(
            f"{names}: every caption is longer than {MAX_CAPTION_CHARS:,} characters"
        )
    return valid
