"""Reader of subtitles: each cue is a moment; the file name without suffix is the name of the
video.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._cues import SUFFIXES, read_cues
from vla.datasets._reading import read_each
from vla.datasets.base import Annotation
from vla.errors import AnnotationError
from vla.omissions import Omissions


class Dataset:
    """Reader of SubRip (`.srt`), WebVTT (`.vtt`) and SubStation Alpha (`.ass`, `.ssa`).

    Attributes:
        omissions: counts for the last `read`: cues of zero length.
    """

    files: ClassVar[str] = "x.srt, x.vtt or x.ass of the video x"

    def __init__(self) -> None:
        self.omissions = Omissions()

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each cue with text.

        Raises:
            AnnotationError: a file is not a subtitle file, or is invalid; one error lists all
                faults.
        """
        self.omissions = Omissions()
        return read_each(paths, self._read)

    def _read(self, path: Path) -> list[Annotation]:
        if path.suffix.lower() not in SUFFIXES:
            raise AnnotationError(
                f"{path}: subtitles are {' or '.join(SUFFIXES)}, not {path.suffix!r}"
            )
        return read_cues(path, path.stem, self.omissions)
