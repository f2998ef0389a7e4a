"""Reader of MSR-VTT: twenty sentences per clip, and the 1k-A test set with one each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from vla.datasets._json import elements, members, parse_file
from vla.datasets._reading import Problems, read_each, split_from_name
from vla.datasets._row_annotations import annotations_of, reader
from vla.datasets._rows import Row, from_objects, read_rows, read_with_suffix
from vla.datasets.base import Annotation
from vla.errors import AnnotationError


class Dataset:
    """Reader of MSR-VTT's JSON and of the CSV lists of its 1k-A split.

    A list of ids (`MSRVTT_train.9k.csv`) selects videos of the JSON; its name is their split. A
    list with sentences (`MSRVTT_JSFUSION_test.csv`) is the test set: no other sentences of its
    videos are read. With any list, unlisted videos are skipped; without a list, the split is that
    of the JSON. `start time` and `end time` locate the clip in its source, not a moment in the
    clip: each sentence describes its whole clip. The category is that of the video, a number.

    Source: Xu et al. 2016; lists of Yu et al. 2018 (JSFusion), as in github.com/ArrowLuo/CLIP4Clip.
    """

    files: ClassVar[str] = (
        "MSRVTT_data.json, and with it for 1k-A MSRVTT_train.9k.csv and MSRVTT_JSFUSION_test.csv"
    )

    def read(self, *paths: Path) -> list[Annotation]:
        """Return one annotation for each sentence; the query id is `sen_id`, or `key` of the test
        list.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults.
        """
        lists = {path: _read_list(path) for path in paths if path.suffix.lower() == ".csv"}
        with_sentences = [path for path in paths if path not in lists or "" in lists[path].values()]
        if paths and not with_sentences:
            raise AnnotationError(
                f"{paths[0]} names videos and has no sentences: give MSRVTT_data.json as well"
            )
        split_of_video = {
            video: split for video_list in lists.values() for video, split in video_list.items()
        }
        # A video of the test list is in no other split, regardless of the order of the lists.
        split_of_video |= {
            video: ""
            for video_list in lists.values()
            for video, split in video_list.items()
            if not split
        }
        of_test_list, of_json = (
            reader(_of_test_list, (".csv",)),
            _json_reader(split_of_video if lists else None),
        )
        return read_each(
            with_sentences, lambda path: of_test_list(path) if path in lists else of_json(path)
        )


def _read_list(path: Path) -> dict[str, str]:
    """Return the split of each listed video; empty if the list contains its sentence."""
    problems, split_of_video = Problems(), {}
    table = read_rows(path, problems, (".csv",), delimiter=",")
    split = "" if "sentence" in table.columns else split_from_name(path)
    if not split and "sentence" not in table.columns:
        problems.add(
            table.header_line,
            "neither a column 'sentence' nor a file name that tells the split (train, val, test)",
        )
    for row in table.rows:
        try:
            split_of_video[row.text("video_id")] = split
        except AnnotationError as error:
            problems.add(row.line, str(error))
    problems.raise_if_any(path)
    return split_of_video


def _of_test_list(row: Row) -> list[Annotation]:
    query_id = row.text("key", "") or row.id
    return [Annotation(query_id, row.text("sentence"), row.text("video_id"), source=row.source)]


def _json_reader(split_of_video: dict[str, str] | None) -> Callable[[Path], list[Annotation]]:
    def read(path: Path) -> list[Annotation]:
        problems = Problems()
        text = read_with_suffix(path, (".json", ".csv")).replace("\r\n", "\n").replace("\r", "\n")
        rows_of = _rows_of(path, text, problems)
        videos = {str(row.cells.get("video_id")): row.cells for row in rows_of["videos"]}

        def annotations(row: Row) -> list[Annotation]:
            video = row.text("video_id")
            if video not in videos:
                raise AnnotationError(f"video {video!r:.60} is not among the file's videos")
            category, split = (
                Row(path, row.line, "", videos[video]).text(name, "")
                for name in ("category", "split")
            )
            if split_of_video is not None:
                split = split_of_video.get(video, "")
                if not split:
                    return []
            query_id, query = row.text("sen_id"), row.text("caption")
            return [
                Annotation(
                    query_id, query, video, split=split, source=row.source, category=category
                )
            ]

        return annotations_of(path, problems, rows_of["sentences"], annotations)

    return read


def _rows_of(path: Path, text: str, problems: Problems) -> dict[str, list[Row]]:
    whole: Any = parse_file(text, path)
    lists = ("videos", "sentences")
    if not isinstance(whole, dict) or not all(isinstance(whole.get(name), list) for name in lists):
        raise AnnotationError(f"{path} must hold an object with the lists 'videos' and 'sentences'")
    rows_of = {}
    for name, position, _, _ in members(text):
        if name in lists:
            values = ((line, value) for _, line, value in elements(text, position))
            rows_of[name] = from_objects(path, values, problems).rows
    return rows_of
