"""JSON whose faults and elements can be told by their lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vla.errors import AnnotationError

_DECODER = json.JSONDecoder()
# Bytes of memory by the mark that begins or follows a value: an empty list, an object with its row, half a text, a number.
_COSTS = {"[": 120, "{": 600, '"': 28, ",": 24}
_MOST_MEMORY = 2 << 30
_SOLID = re.compile(r"[^\s,:]")


class NotJSONError(AnnotationError):
    """A text that is not JSON; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str) -> Any:
    """The value that `text` holds.

    Raises:
        NotJSONError: the text is not JSON, is nested beyond reason, or holds a number of thousands of digits.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJSONError(f"not JSON: {error.msg} (column {error.colno})", error.lineno) from error
    except (RecursionError, ValueError) as error:
        raise NotJSONError(f"not usable as JSON: {error}", 1) from error


def require_room(path: Path, text: str, costs: Mapping[str, int] = _COSTS) -> None:
    """Refuse a text that would take more than 2 GiB of memory once it is taken apart; a valid captions file never does.

    Args:
        path: the file, for the message.
        text: all of it.
        costs: bytes of memory for each occurrence of a character.

    Raises:
        AnnotationError: it would.
    """
    size = sum(cost * text.count(mark) for mark, cost in costs.items())
    if size > _MOST_MEMORY:
        raise AnnotationError(
            f"{path} holds so many values that reading it would take {size / 2**30:.1f} GiB of memory; "
            f"at most {_MOST_MEMORY >> 30} GiB are used: is it a captions file? Split it if it is"
        )


def parse_file(text: str, path: Path) -> Any:
    """The value that the `text` of the file at `path` holds; raises AnnotationError with the file and line if none."""
    require_room(path, text)
    try:
        return parse(text)
    except NotJSONError as error:
        raise AnnotationError(f"{path} line {error.line}: {error}") from error


def elements(text: str, opening: int = 0) -> Iterator[tuple[int, int, Any]]:
    """`(position, line, value)` of each element of the array at `opening`, or of each key and value of the object.

    The text must have gone through `parse`: nothing is checked here.
    """
    opening = _solid(text, opening)
    close = {"[": "]", "{": "}"}[text[opening]]
    line, counted = 1, 0
    position = _solid(text, opening + 1)
    while text[position] != close:
        value, end = _DECODER.raw_decode(text, position)
        line, counted = line + text.count("\n", counted, position), position
        yield position, line, value
        position = _solid(text, end)


def members(text: str, opening: int = 0) -> Iterator[tuple[str, int, int, Any]]:
    """`(key, position, line, value)` of each member of the object at `opening`; the place is the value's."""
    flat = elements(text, opening)
    for (_, _, key), found in zip(flat, flat, strict=True):
        yield key, *found


def kind_of(value: object) -> str:
    """What JSON calls the value: `object`, `list`, `text`, `number`, `truth value` or `null`."""
    names = {dict: "object", list: "list", str: "text", bool: "truth value", type(None): "null"}
    return names.get(type(value), "number")


def _solid(text: str, position: int) -> int:
    found = _SOLID.search(text, position)
    return found.start() if found else len(text)
