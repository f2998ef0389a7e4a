"""Subtitles as captions: every cue is a moment, and the file's name without suffix is the video's."""

from __future__ import annotations

from pathlib import Path

from vla.datasets._cues import SUFFIXES, read_cues
from vla.datasets.base import Annotation
from vla.errors import AnnotationError


class Dataset:
    """Reads SubRip (`.srt`) and WebVTT (`.vtt`)."""

    def read(self, path: Path) -> list[Annotation]:
        """One annotation for each cue that has text.

        Raises:
            AnnotationError: the file is not subtitles, or holds faults; one error names them all.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise AnnotationError(f"{path}: subtitles are {' or '.join(SUFFIXES)}, not {path.suffix!r}")
        return read_cues(path, video=path.stem)
