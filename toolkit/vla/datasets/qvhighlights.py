"""Reader of QVHighlights: moments of a query, and the saliency of each clip of two seconds."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import read_each
from vla.datasets._row_annotations import reader
from vla.datasets._rows import Row
from vla.datasets.base import Annotation, Saliency
from vla.errors import AnnotationError

CLIP_SECONDS = 2


class Dataset:
    """Reader of Moment-DETR's JSONL, also of other data sets in the form of Lighthouse and UniVTG:
    without saliency.

    The windows of a query are its spans; each relevant clip has scores (0 to 4) from three
    annotators. The public test file has neither: its queries seem to describe the whole video.
    Times of the video `ID_60.0_210.0` are relative to second 60 of the source.

    Source: Lei et al. 2021, github.com/jayleicn/moment_detr; the annotations are CC BY-NC-SA 4.0.
    """

    files: ClassVar[str] = (
        "highlight_{train,val}_release.jsonl; any JSONL with qid, query, vid, relevant_windows"
    )

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each query; the query id is the file's `qid`.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        return read_each(paths, reader(_annotations, (".jsonl",)))


def _annotations(row: Row) -> list[Annotation]:
    return [
        Annotation(
            query_id=row.text("qid"),
            query=row.text("query"),
            video=row.text("vid"),
            spans=row.spans("relevant_windows"),
            source=row.source,
            duration=row.seconds("duration"),
            saliency=_saliency(row),
        )
    ]


def _saliency(row: Row) -> Saliency | None:
    clips, scores = (row.cells.get(name) for name in ("relevant_clip_ids", "saliency_scores"))
    if clips is None and scores is None:
        return None
    if (
        not isinstance(clips, list)
        or not isinstance(scores, list)
        or not all(isinstance(s, list) for s in scores)
    ):
        raise AnnotationError(
            "'relevant_clip_ids' and 'saliency_scores' must be lists, with a list of scores for "
            "each clip"
        )
    return Saliency(CLIP_SECONDS, tuple(clips), tuple(tuple(clip_scores) for clip_scores in scores))
