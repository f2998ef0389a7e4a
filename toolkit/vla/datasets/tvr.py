"""Reader of TVR: moments of television shows, described by their pictures, dialogue, or both."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import read_each
from vla.datasets._row_annotations import reader
from vla.datasets._rows import Row
from vla.datasets.base import Annotation


class Dataset:
    """Reader of TVR's JSONL; the category is `v`, `t` or `vt`: the query refers to pictures,
    dialogue or both.

    The public test file has neither videos nor times, so it cannot be imported.

    Source: Lei et al. 2020, github.com/jayleicn/TVRetrieval (MIT).
    """

    files: ClassVar[str] = "tvr_{train,val}_release.jsonl"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each query; the query id is the file's `desc_id`.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        return read_each(paths, reader(_annotations, (".jsonl",)))


def _annotations(row: Row) -> list[Annotation]:
    return [
        Annotation(
            query_id=row.text("desc_id"),
            query=row.text("desc"),
            video=row.text("vid_name"),
            spans=row.span("ts"),
            source=row.source,
            duration=row.seconds("duration"),
            category=row.text("type", ""),
        )
    ]
