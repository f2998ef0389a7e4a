"""Captions in the JSON that lies beside a video: our own form, and what speech recognisers and players write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vla.datasets._columns import Times, times_in
from vla.datasets._json import elements, members, parse_file
from vla.datasets._reading import OtherContentError
from vla.datasets._times import is_missing
from vla.errors import AnnotationError

CAPTION_KEYS = ("caption", "captions", "description", "text")
_ELEMENT_KEYS = (*CAPTION_KEYS, "sentence", "transcript", "utterance", "content", "segs")
# Lists of single words beside the list of sentences.
_WORDS = re.compile(r"(words?|tokens|char(acter)?s)(_segments)?", re.IGNORECASE)
_DEEPEST = 3
_START_AND_END = Times("start", "end")


class Told(NamedTuple):
    """What a place in a file holds, before any of it has been checked.

    Attributes:
        line: of the place.
        texts: the caption, or a list of captions.
        times: None for the whole video; else where the times are.
        cells: what `times` looks into.
    """

    line: int
    texts: Any
    times: Times | None = None
    cells: Mapping[str, Any] = {}


def in_json(text: str, path: Path) -> Iterator[Told]:
    """The captions in the JSON `text` of the file at `path`.

    Raises:
        OtherContentError: it holds nothing that is a caption: metadata, labels, boxes.
        AnnotationError: it is not JSON.
    """
    whole = parse_file(text, path)
    if isinstance(whole, list):
        if whole and not any(isinstance(v, str) or (isinstance(v, dict) and _is_element(v)) for v in whole):
            raise OtherContentError(f"{path} lists no captions: neither texts nor objects with caption or times")
        yield from _in_list(text, 0, whole)
    elif isinstance(whole, dict):
        yield from _in_object(text, path, whole)
    else:
        yield Told(1, whole)


def _is_element(value: Mapping[str, Any]) -> bool:
    return any(key in value for key in (*_ELEMENT_KEYS, "start", "end"))


def _in_object(text: str, path: Path, whole: dict[str, Any]) -> Iterator[Told]:
    timed = list(_timed_lists(text))
    names = {name for name, *_ in timed} | {"moments"} & whole.keys()
    there = [key for key in CAPTION_KEYS if not is_missing(whole.get(key)) and key not in names]
    if not there and not names:
        raise OtherContentError(
            f"{path} has none of the keys {', '.join(CAPTION_KEYS)}, moments; it has: {', '.join(whole) or 'none'}"
        )
    by_key = {key: place for key, *place in members(text)}
    if names - {"moments", "captions"} and "text" in there:
        there.remove("text")  # the same words again, without their times
    is_moment = bool(whole.keys() & {"start", "end"})
    for key in there:
        position, line, value = by_key[key]
        if isinstance(value, list) and any(isinstance(element, dict) for element in value):
            yield from _in_list(text, position, value)
        else:
            yield Told(line, value, _START_AND_END if is_moment else None, whole if is_moment else {})
    if "moments" in whole and not isinstance(whole["moments"], list):
        line = by_key["moments"][1]
        raise AnnotationError(f"{path} line {line}: moments must be a list of objects, not {whole['moments']!r:.60}")
    if "moments" in whole and "moments" not in {name for name, *_ in timed}:
        yield from _in_list(text, by_key["moments"][0], whole["moments"])
    for _, position, values in timed:
        yield from _in_list(text, position, values)


def _timed_lists(text: str, opening: int = 0, depth: int = 1) -> Iterator[tuple[str, int, list[Any]]]:
    """`(key, position, values)` of each list whose elements are texts with times, in the object at `opening` and those within."""
    for key, position, _, value in members(text, opening):
        if isinstance(value, list) and not _WORDS.fullmatch(key):
            objects = [v for v in value if isinstance(v, dict)]
            some = [v for v in objects if any(name in v for name in _ELEMENT_KEYS)]
            if some and _times_of(some) is not None:
                yield key, position, value
        elif isinstance(value, dict) and depth < _DEEPEST:
            yield from _timed_lists(text, position, depth + 1)


def _times_of(objects: list[dict[str, Any]]) -> Times | None:
    columns = tuple(dict.fromkeys(name for value in objects for name in value))
    times = times_in(columns, objects, _ELEMENT_KEYS)
    return times if times.columns else None


def _in_list(text: str, opening: int, values: list[Any]) -> Iterator[Told]:
    times = _times_of([v for v in values if isinstance(v, dict)]) or _START_AND_END
    for _, line, value in elements(text, opening):
        if not isinstance(value, dict):
            yield Told(line, value)
            continue
        key = next((key for key in _ELEMENT_KEYS if key in value), "caption")
        said = value.get(key)
        if key == "segs" and isinstance(said, list):
            said = "".join(str(part.get("utf8", "")) for part in said if isinstance(part, dict))
        elif key not in value and times != _START_AND_END:
            continue  # YouTube's windows among its events say nothing
        yield Told(line, said, times, value)
