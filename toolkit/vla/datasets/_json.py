"""JSON parsing with line numbers for errors and for elements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vla.errors import AnnotationError

_DECODER = json.JSONDecoder()
# Bytes of memory for the character that starts or follows a value: an empty list, an object, half
# a text, a number.
_COSTS = {"[": 120, "{": 600, '"': 28, ",": 24}
_MAX_MEMORY_BYTES = 2 << 30
_SOLID = re.compile(r"[^\s,:]")


class NotJSONError(AnnotationError):
    """A text that is not valid JSON; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        NotJSONError: the text is not JSON, is nested too deeply, or contains a number of thousands
            of digits.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJSONError(f"not JSON: {error.msg} (column {error.colno})", error.lineno) from error
    except (RecursionError, ValueError) as error:
        raise NotJSONError(f"not usable as JSON: {error}", 1) from error


def require_room(path: Path, text: str, costs: Mapping[str, int] = _COSTS) -> None:
    """Check that parsing a text takes at most 2 GiB of memory; a valid captions file stays far
    below that.

    Args:
        path: the file, for the message.
        text: its content.
        costs: bytes of memory for each occurrence of a character.

    Raises:
        AnnotationError: it takes more.
    """
    size = sum(cost * text.count(mark) for mark, cost in costs.items())
    if size > _MAX_MEMORY_BYTES:
        raise AnnotationError(
            f"{path} would take {size / 2**30:.1f} GiB of memory to parse, more than the limit of "
            f"{_MAX_MEMORY_BYTES >> 30} GiB: check that it is a captions file, and split it if "
            f"it is"
        )


def parse_file(text: str, path: Path) -> Any:
    """Return the value of the `text` of a JSON file; raises AnnotationError with the path and line
    if it is invalid.
    """
    require_room(path, text)
    try:
        return parse(text)
    except NotJSONError as error:
        raise AnnotationError(f"{path} line {error.line}: {error}") from error


def elements(text: str, opening: int = 0) -> Iterator[tuple[int, int, Any]]:
    """Yield `(position, line, value)` of each element of the array at `opening`, or of each key
    and value of an object.

    The text must have passed `parse`: it is not checked here.
    """
    opening = _solid(text, opening)
    close = {"[": "]", "{": "}"}[text[opening]]
    line, counted_to = 1, 0
    position = _solid(text, opening + 1)
    while text[position] != close:
        value, end = _DECODER.raw_decode(text, position)
        line, counted_to = line + text.count("\n", counted_to, position), position
        yield position, line, value
        position = _solid(text, end)


def members(text: str, opening: int = 0) -> Iterator[tuple[str, int, int, Any]]:
    """Yield `(key, position, line, value)` of each member of the object at `opening`; the position
    is of the value.
    """
    flat = elements(text, opening)
    for (_, _, key), element in zip(flat, flat, strict=True):
        yield key, *element


def kind_of(value: object) -> str:
    """Return the name of a JSON type: `object`, `list`, `text`, `number`, `truth value` or `null`."""
    names = {dict: "object", list: "list", str: "text", bool: "truth value", type(None): "null"}
    return names.get(type(value), "number")


def _solid(text: str, position: int) -> int:
    match = _SOLID.search(text, position)
    return match.start() if match else len(text)
