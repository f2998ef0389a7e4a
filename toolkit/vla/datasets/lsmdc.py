"""Reader of LSMDC: film clips with audio descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import read_each
from vla.datasets._row_annotations import reader
from vla.datasets._rows import Row
from vla.datasets.base import Annotation

_COLUMNS = (
    "CLIP_ID",
    "START_ALIGNED",
    "END_ALIGNED",
    "START_EXTRACTED",
    "END_EXTRACTED",
    "SENTENCE",
)
_NAMES_OF_FIRST = ("CLIP_ID", "VIDEO_ID")


class Dataset:
    """Reader of LSMDC's six tab-separated columns, without quotes, for any suffix; a header line
    is skipped.

    The times locate the clip in its film, not a moment in the clip: each sentence describes its
    whole clip. A clip may have several sentences. The split is that of the name:
    `LSMDC16_challenge_1000_publictect.csv` is the test set.

    Source: Rohrbach et al. 2017, sites.google.com/site/describingmovies.
    """

    files: ClassVar[str] = "LSMDC16_annos_{training,val}.csv, LSMDC16_challenge_1000_publictect.csv"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each sentence.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        form = {"columns": _COLUMNS, "delimiter": "\t", "has_quotes": False}
        return read_each(paths, reader(_annotations, (".csv", ".tsv", ".txt"), **form))


def _annotations(row: Row) -> list[Annotation]:
    if row.cells["CLIP_ID"].strip("<> ").upper() in _NAMES_OF_FIRST:
        return []
    split = "test" if "publictect" in row.path.stem else ""  # sic
    return [
        Annotation(
            row.id, row.text("SENTENCE"), row.text("CLIP_ID"), split=split, source=row.source
        )
    ]
