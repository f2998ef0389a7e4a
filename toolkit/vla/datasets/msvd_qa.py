"""Reader of MSVD-QA: questions generated from MSVD's descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._one_word import read_questions
from vla.datasets._reading import Problems
from vla.datasets._rows import read_rows
from vla.datasets.base import Annotation
from vla.errors import AnnotationError


class Dataset:
    """Reader of MSVD-QA's JSON; video 7 is `vid7`, or its name in MSVD if the mapping is passed as
    well.

    The mapping has lines like `-4wsuPCjDBc_5_15 vid1`. The category is the first word of the
    question.

    Source: Xu et al. 2017, github.com/xudejing/video-question-answering.
    """

    files: ClassVar[str] = "{train,val,test}_qa.json, and with it youtube_mapping.txt"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each question; the query id is the file's `id`.

        Raises:
            AnnotationError: a file cannot be read or is invalid, or the mapping lacks a video.
        """
        mappings = [path for path in paths if path.suffix.lower() == ".txt"]
        names = {number: name for path in mappings for number, name in _names(path).items()}

        def name_of(number: str) -> str:
            if names and f"vid{number}" not in names:
                raise AnnotationError(f"{mappings[0]} has no line for vid{number}")
            return names.get(f"vid{number}", f"vid{number}")

        return read_questions([path for path in paths if path not in mappings], name_of)


def _names(path: Path) -> dict[str, str]:
    problems, names = Problems(), {}
    columns = ("name", "number")
    for row in read_rows(
        path, problems, (".txt",), columns=columns, delimiter=" ", has_quotes=False
    ).rows:
        try:
            names[row.text("number")] = row.text("name")
        except AnnotationError as error:
            problems.add(row.line, str(error))
    problems.raise_if_any(path)
    return names
