"""Subtitles as captions: every cue is a moment, and the file's name without suffix is the video's."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vla.datasets._cues import SUFFIXES, read_cues
from vla.datasets._reading import read_each
from vla.datasets.base import Annotation
from vla.errors import AnnotationError


class Dataset:
    """Reads SubRip (`.srt`) and WebVTT (`.vtt`)."""

    files: ClassVar[str] = "x.srt or x.vtt of the video x"

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each cue that has text.

        Raises:
            AnnotationError: a file is not subtitles, or holds faults; one error names them all.
        """
        return read_each(paths, _read)


def _read(path: Path) -> list[Annotation]:
    if path.suffix.lower() not in SUFFIXES:
        raise AnnotationError(f"{path}: subtitles are {' or '.join(SUFFIXES)}, not {path.suffix!r}")
    return read_cues(path, video=path.stem)
