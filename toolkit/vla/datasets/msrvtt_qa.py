"""MSRVTT-QA: questions made of MSR-VTT's sentences."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._one_word import read_questions
from vla.datasets.base import Annotation


class Dataset:
    """Reads MSRVTT-QA's JSON; video 7 is `video7`, as MSR-VTT calls it. The category is the question's first word.

    Source: Xu et al. 2017, github.com/xudejing/video-question-answering.
    """

    files: ClassVar[str] = "{train,val,test}_qa.json; or JSONL with question, answer, video_id"

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each question, with the file's `id` for an id.

        Raises:
            AnnotationError: a file cannot be read or holds faults; one error names them all.
        """
        return read_questions(paths, "video{}".format)
