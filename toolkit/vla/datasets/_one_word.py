"""Questions that were made of captions and are answered in a word: what MSRVTT-QA and MSVD-QA have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from vla.datasets._reading import read_each
from vla.datasets._rows import Row, reader
from vla.datasets.base import Annotation, Question

SUFFIXES = (".json", ".jsonl")

# By these words the sets' authors report, and so does everyone since.
_CATEGORIES = ("what", "who", "how", "when", "where")


def read_questions(paths: Iterable[Path], name_of: Callable[[str], str]) -> list[Annotation]:
    """One annotation for each question, with the file's `id` for an id.

    Args:
        paths: JSON lists or JSONL of objects with `question`, `answer`, `video_id`, and perhaps `id`.
        name_of: the name of the video that the files have a number for.

    Raises:
        AnnotationError: a file cannot be read or holds faults; one error names them all.
    """

    def annotations(row: Row) -> list[Annotation]:
        question, answer, video = row.text("question"), row.text("answer", ""), row.text("video_id")
        first = question.split()[0].lower()
        return [
            Annotation(
                query_id=row.text("id", "") or row.id,
                query=question,
                video=name_of(video) if video.isdecimal() else video,
                source=row.source,
                category=first if first in _CATEGORIES else "",
                question=Question(answers=(answer,) if answer else ()),
            )
        ]

    return read_each(paths, reader(annotations, SUFFIXES))
