"""Captions in JSON files beside a video: our own format, and those of speech recognizers and
players.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vla.datasets._columns import TimeColumns, find_time_columns
from vla.datasets._json import elements, members, parse_file
from vla.datasets._reading import OtherContentError
from vla.datasets._times import is_missing
from vla.errors import AnnotationError

CAPTION_KEYS = ("caption", "captions", "description", "text")
_ELEMENT_KEYS = (*CAPTION_KEYS, "sentence", "transcript", "utterance", "content", "segs")
# Lists of single words, which recognizers write beside the list of sentences.
_WORDS = re.compile(r"(words?|tokens|char(acter)?s)(_segments)?", re.IGNORECASE)
_MAX_DEPTH = 3
_START_AND_END = TimeColumns("start", "end")


class RawCaption(NamedTuple):
    """Unchecked captions at one position of a file.

    Attributes:
        line: line of the position.
        texts: the caption, or a list of captions.
        times: columns of the times in `cells`; None for the whole video.
        cells: the object with the times.
    """

    line: int
    texts: Any
    times: TimeColumns | None = None
    cells: Mapping[str, Any] = {}


def captions_in_json(text: str, path: Path) -> Iterator[RawCaption]:
    """Yield the captions in the JSON `text` of the file at `path`.

    Raises:
        OtherContentError: the file contains no captions: metadata, labels, boxes.
        AnnotationError: the file is not JSON.
    """
    whole = parse_file(text, path)
    if isinstance(whole, list):
        if whole and not any(
            isinstance(v, str) or (isinstance(v, dict) and _is_caption_object(v)) for v in whole
        ):
            raise OtherContentError(
                f"{path} lists no captions: neither texts nor objects with caption or times"
            )
        yield from _captions_in_list(text, 0, whole)
    elif isinstance(whole, dict):
        yield from _captions_in_object(text, path, whole)
    else:
        yield RawCaption(1, whole)


def _is_caption_object(value: Mapping[str, Any]) -> bool:
    return any(key in value for key in (*_ELEMENT_KEYS, "start", "end"))


def _captions_in_object(text: str, path: Path, whole: dict[str, Any]) -> Iterator[RawCaption]:
    timed_lists = list(_timed_lists(text))
    names = {name for name, *_ in timed_lists} | {"moments"} & whole.keys()
    keys = [key for key in CAPTION_KEYS if not is_missing(whole.get(key)) and key not in names]
    if not keys and not names:
        raise OtherContentError(
            f"{path} has none of the keys {', '.join(CAPTION_KEYS)}, moments; it has: "
            f"{', '.join(whole) or 'none'}"
        )
    by_key = {key: value for key, *value in members(text)}
    if names - {"moments", "captions"} and "text" in keys:
        keys.remove("text")  # repeats the words of the lists, without their times
    is_moment = bool(whole.keys() & {"start", "end"})
    for key in keys:
        position, line, value = by_key[key]
        if isinstance(value, list) and any(isinstance(element, dict) for element in value):
            yield from _captions_in_list(text, position, value)
        else:
            yield RawCaption(
                line, value, _START_AND_END if is_moment else None, whole if is_moment else {}
            )
    if "moments" in whole and not isinstance(whole["moments"], list):
        line = by_key["moments"][1]
        raise AnnotationError(
            f"{path} line {line}: moments must be a list of objects, not {whole['moments']!r:.60}"
        )
    if "moments" in whole and "moments" not in {name for name, *_ in timed_lists}:
        yield from _captions_in_list(text, by_key["moments"][0], whole["moments"])
    for _, position, values in timed_lists:
        yield from _captions_in_list(text, position, values)


def _timed_lists(
    text: str, opening: int = 0, depth: int = 1
) -> Iterator[tuple[str, int, list[Any]]]:
    """Yield `(key, position, values)` of each list of objects with text and times, also in nested
    objects.
    """
    for key, position, _, value in members(text, opening):
        if isinstance(value, list) and not _WORDS.fullmatch(key):
            objects = [v for v in value if isinstance(v, dict)]
            with_text = [v for v in objects if any(name in v for name in _ELEMENT_KEYS)]
            if with_text and _time_columns(with_text) is not None:
                yield key, position, value
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            yield from _timed_lists(text, position, depth + 1)


def _time_columns(objects: list[dict[str, Any]]) -> TimeColumns | None:
    columns = tuple(dict.fromkeys(name for value in objects for name in value))
    times = find_time_columns(columns, objects, _ELEMENT_KEYS)
    return times if times.columns else None


def _captions_in_list(text: str, opening: int, values: list[Any]) -> Iterator[RawCaption]:
    times = _time_columns([v for v in values if isinstance(v, dict)]) or _START_AND_END
    for _, line, value in elements(text, opening):
        if not isinstance(value, dict):
            yield RawCaption(line, value)
            continue
        key = next((key for key in _ELEMENT_KEYS if key in value), "caption")
        caption = value.get(key)
        if key == "segs" and isinstance(caption, list):
            caption = "".join(
                str(part.get("utf8", "")) for part in caption if isinstance(part, dict)
            )
        elif key not in value and times != _START_AND_END:
            continue  # YouTube's events also include windows, which have no text
        yield RawCaption(line, caption, times, value)
