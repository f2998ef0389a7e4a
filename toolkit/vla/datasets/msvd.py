"""Reader of MSVD: many descriptions per short clip, some of them identical."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from vla.datasets._reading import Problems, read_each, read_text, split_from_name
from vla.datasets._row_annotations import annotations_of
from vla.datasets._rows import Row, read_members, read_rows, read_with_suffix
from vla.datasets.base import Annotation
from vla.errors import AnnotationError


class Dataset:
    """Reader of MSVD's descriptions in each of their forms, and of the lists of ids that define
    the usual splits.

    Descriptions are lines with an id and a text (`AllVideoDescriptions.txt`), the corpus as CSV
    (only its English descriptions are read; an id is `VideoID_Start_End`), or a JSON object with
    the texts of each id. A text file with one word per line is a list; its name is the split. With
    any list, unlisted videos are skipped. Equal descriptions of a video stay separate, each with
    its own id, as the usual metrics count them. `raw-captions.pkl` is not read: loading a pickle
    can run arbitrary code.

    Source: Chen and Dolan 2011; lists as in github.com/ArrowLuo/CLIP4Clip.
    """

    files: ClassVar[str] = (
        "AllVideoDescriptions.txt, the corpus' CSV, or JSON; with it {train,val,test}_list.txt"
    )

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each description.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        lists = {path: split for path in paths if (split := _list(path)) is not None}
        description_files = [path for path in paths if path not in lists]
        if paths and not description_files:
            raise AnnotationError(
                f"{paths[0]} names videos and does not describe them: give the descriptions as well"
            )
        split_of_video = {
            video: split for video_list in lists.values() for video, split in video_list.items()
        }
        return read_each(description_files, _reader(split_of_video if lists else None))


def _list(path: Path) -> dict[str, str] | None:
    """Return the split of each listed video; None if the file is not a list."""
    if path.suffix.lower() != ".txt":
        return None
    lines = [
        line.strip() for line in read_text(path).replace("\r", "\n").split("\n") if line.strip()
    ]
    if not lines or any(len(line.split()) != 1 for line in lines):
        return None
    split = split_from_name(path)
    if not split:
        raise AnnotationError(
            f"{path} is a list of videos, but its name does not tell of which split (train, val, "
            f"test)"
        )
    return dict.fromkeys(lines, split)


def _reader(split_of_video: dict[str, str] | None) -> Callable[[Path], list[Annotation]]:
    def annotations(row: Row) -> list[Annotation]:
        video = row.text("video")
        if split_of_video is not None and video not in split_of_video:
            return []
        split = split_of_video[video] if split_of_video else ""
        return [Annotation(row.id, row.text("description"), video, split=split, source=row.source)]

    def read(path: Path) -> list[Annotation]:
        problems = Problems()
        rows = {".json": _of_json, ".csv": _of_csv}.get(path.suffix.lower(), _of_lines)
        return annotations_of(path, problems, rows(path, problems), annotations)

    return read


def _of_lines(path: Path, problems: Problems) -> Iterator[Row]:
    text = (
        read_with_suffix(path, (".txt", ".csv", ".json")).replace("\r\n", "\n").replace("\r", "\n")
    )
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip() and not content.startswith("#"):
            video, _, description = content.strip().partition(" ")
            yield Row(path, line, str(line), {"video": video, "description": description})


def _of_csv(path: Path, problems: Problems) -> Iterator[Row]:
    for row in read_rows(path, problems, (".csv",), delimiter=",").rows:
        try:
            if row.text("Language", "English") == "English":
                video = "_".join(row.text(name) for name in ("VideoID", "Start", "End"))
                cells = {"video": video, "description": row.cells.get("Description")}
                yield Row(path, row.line, row.position, cells)
        except AnnotationError as error:
            problems.add(row.line, str(error))


def _of_json(path: Path, problems: Problems) -> Iterator[Row]:
    for video, line, texts in read_members(path, problems):
        if not isinstance(texts, list):
            problems.add(line, f"{video!r:.60}: expected a list of descriptions, not {texts!r:.60}")
            continue
        for number, text in enumerate(texts):
            cells = {"video": video, "description": text}
            yield Row(
                path, line, f"{video}#{number}", cells, f"{video!r:.60} description {number + 1}"
            )
