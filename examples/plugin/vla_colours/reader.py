"""A reader of captions: lines `video | caption | start-end`, the times in seconds and left out for the whole video."""

from pathlib import Path
from typing import ClassVar

from vla.datasets.base import Annotation
from vla.errors import AnnotationError


class Dataset:
    """`files` is what `vla import --list` says."""

    files: ClassVar[str] = "*.txt, lines `video | caption | start-end`"

    def read(self, *paths: Path) -> list[Annotation]:
        """One annotation for each line. Raises AnnotationError that names file and line."""
        found = []
        for path in paths:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                where = f"{path.name}:{number}"
                cells = [cell.strip() for cell in line.split("|")]
                if len(cells) != 3:
                    raise AnnotationError(f"{where}: 'video | caption | start-end' is needed, not {line!r:.60}")
                video, caption, times = cells
                try:
                    start, end = map(float, times.split("-")) if times else (None, None)
                except ValueError:
                    raise AnnotationError(f"{where}: times are 'start-end' in seconds, not {times!r:.60}") from None
                spans = ((start, end),) if times else ()
                found.append(Annotation(where, caption, video, spans=spans, source=str(path)))
        return found
