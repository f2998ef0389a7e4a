"""Lists and pairs of times in cells: as JSON, as Python literals, or as `0:01 - 0:05`."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from vla.datasets._times import seconds
from vla.errors import AnnotationError

_MAX_CELL_CHARS = 1_000_000
_BETWEEN = re.compile(r"\s*(?:-->|->|\bto\b|[–—~;|]|(?<=[0-9])\s*-)\s*|\s*,\s+|\s+|,")


def parse_list(value: object) -> list[Any] | None:
    """Return a list, or the JSON or Python literal of one, as a list; None for any other value."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str) or not 2 <= len(value) <= _MAX_CELL_CHARS:
        return None
    text = value.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # for invalid escapes in the text
                value_of_text = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value_of_text if isinstance(value_of_text, list) else None
    return None


def parse_texts(value: object) -> list[str] | None:
    """Return a non-empty list of texts; None for any other value."""
    values = parse_list(value)
    return values if values and all(isinstance(text, str) for text in values) else None


def parse_pairs(value: object) -> list[list[object]]:
    """Return the `[start, end]` pairs in a cell: a pair, a list of pairs, or a text with two
    times; empty for other values.
    """
    if isinstance(value, dict):
        return _from_object(value)
    values = parse_list(value)
    if values is None:
        # `1,5` is one time with a decimal comma.
        if not isinstance(value, str) or len(value) > 100 or is_time(value):
            return []
        parts = [part for part in _BETWEEN.split(value.strip().strip("()[]")) if part]
        return [list(parts)] if len(parts) == 2 and all(map(is_time, parts)) else []
    if len(values) == 2 and all(map(is_time, values)):
        return [values]
    pairs = [list(pair) for pair in values if isinstance(pair, list | tuple) and len(pair) == 2]
    return (
        pairs
        if len(pairs) == len(values) and all(is_time(time) for pair in pairs for time in pair)
        else []
    )


def _from_object(value: dict[str, Any]) -> list[list[object]]:
    """Return the pair in `{"start": 1, "end": 2}` or `{"from": 1, "to": 2}`."""
    for start, end in (
        ("start", "end"),
        ("from", "to"),
        ("begin", "end"),
        ("start_time", "end_time"),
    ):
        if start in value and end in value and is_time(value[start]) and is_time(value[end]):
            return [[value[start], value[end]]]
    return []


def is_time(value: object) -> bool:
    """Return whether a value is a number or a text with a time."""
    try:
        seconds(value)
    except AnnotationError:
        return False
    return True
