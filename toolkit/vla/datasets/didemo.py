"""DiDeMo: moments in chunks of five seconds, each marked by four annotators or more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from vla.datasets._reading import read_each
from vla.datasets._rows import Row, reader
from vla.datasets._times import Spans
from vla.datasets.base import Annotation
from vla.errors import AnnotationError

CHUNK_SECONDS = 5.0

_AGREEING = 3
_Chunks = tuple[int, int]


class Dataset:
    """Reads DiDeMo's JSON: every annotator's span is a vote, and the span is the vote that the others agree with best.

    The set has no official single span. Its own evaluation takes the mean of the three best IoUs with the annotators'
    spans (`utils/eval.py` of the source); the vote is taken for which that is highest. The
    last chunk of a video may be shorter than five seconds, which the file does not tell: a span may end after it.
    The descriptions of a video, in the order of the file, are its paragraph.

    Source: Hendricks et al. 2017, github.com/LisaAnne/LocalizingMoments; the annotations are CC BY-NC-SA.
    """

    files: ClassVar[str] = "{train,val,test}_data.json"

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each description, with the file's `annotation_id` for an id.

        Raises:
            AnnotationError: a file cannot be read or holds faults; one error names them all.
        """
        return read_each(paths, _read)


def _read(path: Path) -> list[Annotation]:
    said_of = Counter[str]()

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
            sentence=said_of[video],
            votes=_seconds(times),
        )
        said_of[video] += 1
        return [annotation]

    return reader(annotations, (".json",))(path)


def consensus_span(times: list[_Chunks]) -> _Chunks:
    """Of the annotators' `(first, last)` chunks the pair whose three best IoUs with all of them have the highest mean.

    Of equal ones the pair that agrees best with all, and then the first.
    """
    first, last = np.array(times, np.float64).T
    shared = np.minimum(last[:, None], last) + 1 - np.maximum(first[:, None], first)
    spanned = np.maximum(last[:, None], last) + 1 - np.minimum(first[:, None], first)
    ious = np.sort(np.maximum(shared, 0) / spanned)
    agreement = [(of_vote[-_AGREEING:].mean(), of_vote.mean()) for of_vote in ious]
    return times[agreement.index(max(agreement))]


def _times(row: Row) -> list[_Chunks]:
    times = row.cells.get("times")
    if not isinstance(times, list) or not times:
        raise AnnotationError(f"'times' must be a list of [first, last] chunks, not {times!r:.60}")
    for pair in times:
        fits = isinstance(pair, list) and len(pair) == 2 and all(type(chunk) is int for chunk in pair)
        if not fits or not 0 <= pair[0] <= pair[1] < 10**6:
            raise AnnotationError(f"'times' must hold [first, last] chunks, counted from 0, not {pair!r:.60}")
    return [(first, last) for first, last in times]


def _seconds(times: list[_Chunks]) -> Spans:
    return tuple((first * CHUNK_SECONDS, (last + 1) * CHUNK_SECONDS) for first, last in times)
