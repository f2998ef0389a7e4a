"""The reader that a captions file's suffix asks for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from vla.datasets import registry
from vla.datasets._reading import OtherContentError
from vla.datasets.base import Annotation, Dataset
from vla.errors import AnnotationError
from vla.omissions import Omissions

LONGEST_CAPTION = 10_000
"""Characters. Encoders read a few hundred; what is longer is a document, and takes minutes to be cut into sentences."""

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


def dataset_for(path: Path, format: str | None = None, **columns: str) -> Dataset:
    """The reader called `format`, else the one for the suffix of `path`.

    Args:
        path: the file.
        format: a name on the shelf `datasets`; only tables and subtitles are known by their suffix.
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


def read_annotations(
    path: Path, format: str | None = None, omissions: Omissions | None = None, **columns: str
) -> list[Annotation]:
    """Every annotation of the file.

    Args:
        path: the file.
        format: as for `dataset_for`.
        omissions: where it is counted what the file has and is not kept.
        columns: as for `dataset_for`.

    Raises:
        AnnotationError: no reader takes such a suffix, or the file cannot be used; one error names all its faults.
        UnknownNameError: no reader is called so.
        UsageError: the reader has no such option.
    """
    return read_files(dataset_for(path, format, **columns), [path], Omissions() if omissions is None else omissions)


def read_files(dataset: Dataset, paths: Iterable[Path], omissions: Omissions) -> list[Annotation]:
    """What `dataset` reads in the files; what it left out, and captions too long to be any, are counted in `omissions`.

    Raises:
        AnnotationError: as `dataset.read` does; or all captions are too long.
    """
    listed = list(paths)
    annotations = dataset.read(*listed)
    omissions.merge(getattr(dataset, "omissions", Omissions()))
    return _within_length(annotations, omissions, listed)


def read_beside(path: Path, video: str, omissions: Omissions) -> list[Annotation]:
    """The captions in a file beside the video of that name; none, and counted, where it holds something else.

    Raises:
        AnnotationError: the file cannot be used; it is counted all the same.
    """
    try:
        return read_files(cast(Dataset, registry.build("sidecar", {"video": video})), [path], omissions)
    except AnnotationError as error:
        omissions.add("captions-file", path.name)
        if isinstance(error, OtherContentError):
            return []
        raise


def _within_length(annotations: list[Annotation], omissions: Omissions, paths: list[Path]) -> list[Annotation]:
    kept = []
    for annotation in annotations:
        if len(annotation.query) <= LONGEST_CAPTION:
            kept.append(annotation)
        else:
            omissions.add("row", f"{annotation.source}: {len(annotation.query):,} characters")
    if annotations and not kept:
        names = ", ".join(map(str, paths))
        raise AnnotationError(f"{names}: every caption is longer than {LONGEST_CAPTION:,} characters")
    return kept
