"""Reader of MSRVTT-QA: questions generated from MSR-VTT's sentences."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._one_word import read_questions
from vla.datasets.base import Annotation


class Dataset:
    """Reader of MSRVTT-QA's JSON; video 7 is `video7`, as in MSR-VTT. The category is the first
    word of the question.

    Source: Xu et al. 2017, github.com/xudejing/video-question-answering.
    """

    files: ClassVar[str] = "{train,val,test}_qa.json; or JSONL with question, answer, video_id"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each question; the query id is the file's `id`.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        return read_questions(paths, "video{}".format)
