"""Reader of ActivityNet Captions: sentences of paragraphs, each with its moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from vla.datasets._json import kind_of
from vla.datasets._reading import Problems, read_each
from vla.datasets._row_annotations import annotations_of
from vla.datasets._rows import Row, read_members
from vla.datasets.base import Annotation

_SPLITS = ("train", "val_1", "val_2")


class Dataset:
    """Reader of ActivityNet Captions' JSON; the split is the file name.

    `val_1` and `val_2` describe nearly the same videos by different annotators, and publications
    use either as the test set. They stay separate: a video has one paragraph in each. Some moments
    end slightly after their video.

    Source: Krishna et al. 2017, cs.stanford.edu/people/ranjaykrishna/densevid.
    """

    files: ClassVar[str] = "train.json, val_1.json, val_2.json"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each sentence: `val_1:v_ID#0` is the first of its paragraph
        `val_1:v_ID`.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        return read_each(paths, _read)


def _read(path: Path) -> list[Annotation]:
    problems = Problems()
    return annotations_of(path, problems, _rows(path, problems), _annotations)


def _rows(path: Path, problems: Problems) -> Iterator[Row]:
    for video, line, member in read_members(path, problems):
        if not isinstance(member, dict):
            problems.add(line, f"{video!r:.60}: expected an object, not a {kind_of(member)}")
            continue
        times, sentences = member.get("timestamps"), member.get("sentences")
        if (
            not isinstance(times, list)
            or not isinstance(sentences, list)
            or len(times) != len(sentences)
        ):
            problems.add(
                line,
                f"{video!r:.60}: 'timestamps' and 'sentences' must be lists of the same length",
            )
            continue
        for number, (time, sentence) in enumerate(zip(times, sentences, strict=True)):
            cells = {
                "video": video,
                "duration": member.get("duration"),
                "timestamp": time,
                "sentence": sentence,
            }
            item = f"{video!r:.60} sentence {number + 1}"
            yield Row(path, line, f"{video}#{number}", {**cells, "number": number}, item)


def _annotations(row: Row) -> list[Annotation]:
    video = row.text("video")
    return [
        Annotation(
            query_id=row.id,
            query=row.text("sentence"),
            video=video,
            spans=row.span("timestamp"),
            split=row.path.stem if row.path.stem in _SPLITS else "",
            source=row.source,
            duration=row.seconds("duration"),
            paragraph=f"{row.path.stem}:{video}",
            sentence=row.cells["number"],
        )
    ]
