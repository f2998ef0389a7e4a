"""Subtitles as captions: every cue is a moment, and the file's name without suffix is the video's."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._cues import SUFFIXES, read_cues
from vla.datasets._reading import read_each
from vla.datasets.base import Annotation
from vla.errors import AnnotationError
from vla.omissions import Omissions


class Dataset:
    """Reads SubRip (`.srt`), WebVTT (`.vtt`) and SubStation Alpha (`.ass`, `.ssa`).

    Attributes:
        omissions: of the files last read: cues of no length.
    """

    files: ClassVar[str] = "x.srt, x.vtt or x.ass of the video x"

    def __init__(self) -> None:
        self.omissions = Omissions()

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each cue that has text.

        Raises:
            AnnotationError: a file is not subtitles, or holds faults; one error names them all.
        """
        self.omissions = Omissions()
        return read_each(paths, self._read)

    def _read(self, path: Path) -> list[Annotation]:
        if path.suffix.lower() not in SUFFIXES:
            raise AnnotationError(f"{path}: subtitles are {' or '.join(SUFFIXES)}, not {path.suffix!r}")
        return read_cues(path, path.stem, self.omissions)
