"""A caption reader for lines `video | caption | start-end`, in seconds; empty for a whole video."""

from pathlib import Path
from typing import ClassVar

from vla.datasets.base import Annotation
from vla.errors import AnnotationError


class Dataset:
    """Reader of caption files; `vla import --list` prints `files`."""

    files: ClassVar[str] = "*.txt, lines `video | caption | start-end`"

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each line; raise AnnotationError with file and line."""
        annotations = []
        for path in paths:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                where = f"{path.name}:{number}"
                cells = [cell.strip() for cell in line.split("|")]
                if len(cells) != 3:
                    raise AnnotationError(
                        f"{where}: expected 'video | caption | start-end', not {line!r:.60}"
                    )
                video, caption, times = cells
                try:
                    start, end = map(float, times.split("-")) if times else (None, None)
                except ValueError:
                    raise AnnotationError(
                        f"{where}: expected times 'start-end' in seconds, not {times!r:.60}"
                    ) from None
                spans = ((start, end),) if times else ()
                annotations.append(Annotation(where, caption, video, spans=spans, source=str(path)))
        return annotations
