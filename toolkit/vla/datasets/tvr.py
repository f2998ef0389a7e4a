"""TVR: moments of television by what is seen, said, or both."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import read_each
from vla.datasets._rows import Row, reader
from vla.datasets.base import Annotation


class Dataset:
    """Reads TVR's JSONL; the category is `v`, `t` or `vt`: whether pictures, dialogue or both are needed.

    The public test file names neither videos nor times, so there is nothing to import from it.

    Source: Lei et al. 2020, github.com/jayleicn/TVRetrieval (MIT).
    """

    files: ClassVar[str] = "tvr_{train,val}_release.jsonl"

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each query, with the file's `desc_id` for an id.

        Raises:
            AnnotationError: a file cannot be read or holds faults; one error names them all.
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
