"""Reader of DiDeMo: moments in chunks of five seconds, each marked by at least four annotators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from vla.datasets._reading import read_each
from vla.datasets._row_annotations import reader
from vla.datasets._rows import Row
from vla.datasets._times import Spans
from vla.datasets.base import Annotation
from vla.errors import AnnotationError

CHUNK_SECONDS = 5.0

_NUM_BEST = 3
_Chunks = tuple[int, int]


class Dataset:
    """Reader of DiDeMo's JSON: the annotators' spans are `votes`; the span is the vote with the
    best agreement.

    The data set has no official single span. Its evaluation takes the mean of the three best IoUs
    with the annotators' spans (`utils/eval.py` of the source); the span is the vote that maximizes
    this mean. The last chunk of a video may be shorter than five seconds, which the file does not
    record: a span may end after it. The descriptions of a video, in the order of the file, form
    its paragraph.

    Source: Hendricks et al. 2017, github.com/LisaAnne/LocalizingMoments; the annotations are CC
    BY-NC-SA.
    """

    files: ClassVar[str] = "{train,val,test}_data.json"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each description; the query id is the file's `annotation_id`.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        return read_each(paths, _read)


def _read(path: Path) -> list[Annotation]:
    num_descriptions = Counter[str]()

    def annotations(row: Row) -> list[Annotation]:
        video = row.text("video")
        times = _times(row)
        annotation = Annotation(
            query_id=row.text("annotation_id"),
            query=row.text("description"),
            video=video,
            spans=_seconds([consensus_span(times)]),
            source=row.source,
            paragraph=f"{path.stem}:{video}",
            sentence=num_descriptions[video],
            votes=_seconds(times),
        )
        num_descriptions[video] += 1
        return [annotation]

    return reader(annotations, (".json",))(path)


def consensus_span(times: list[_Chunks]) -> _Chunks:
    """Return the pair of `(first, last)` chunks with the highest mean of its three best IoUs with
    all pairs.

    Ties go to the pair with the highest mean IoU with all pairs, then to the first.
    """
    first, last = np.array(times, np.float64).T
    intersections = np.minimum(last[:, None], last) + 1 - np.maximum(first[:, None], first)
    unions = np.maximum(last[:, None], last) + 1 - np.minimum(first[:, None], first)
    ious = np.sort(np.maximum(intersections, 0) / unions)
    agreement = [(vote_ious[-_NUM_BEST:].mean(), vote_ious.mean()) for vote_ious in ious]
    return times[agreement.index(max(agreement))]


def _times(row: Row) -> list[_Chunks]:
    times = row.cells.get("times")
    if not isinstance(times, list) or not times:
        raise AnnotationError(f"'times' must be a list of [first, last] chunks, not {times!r:.60}")
    for pair in times:
        fits = (
            isinstance(pair, list) and len(pair) == 2 and all(type(chunk) is int for chunk in pair)
        )
        if not fits or not 0 <= pair[0] <= pair[1] < 10**6:
            raise AnnotationError(
                f"'times' must hold [first, last] chunks, counted from 0, not {pair!r:.60}"
            )
    return [(first, last) for first, last in times]


def _seconds(times: list[_Chunks]) -> Spans:
    return tuple((first * CHUNK_SECONDS, (last + 1) * CHUNK_SECONDS) for first, last in times)
