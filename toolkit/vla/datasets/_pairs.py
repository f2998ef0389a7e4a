"""Lists and pairs of times in cells, as JSON, as Python writes lists, or as `0:01 - 0:05`."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from vla.datasets._times import seconds
from vla.errors import AnnotationError

_LONGEST_CELL = 1_000_000
_BETWEEN = re.compile(r"\s*(?:-->|->|\bto\b|[–—~;|]|(?<=[0-9])\s*-)\s*|\s*,\s+|\s+|,")


def listed(value: object) -> list[Any] | None:
    """`value` as a list: one, or the text of one as JSON or Python writes it; None for anything else."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str) or not 2 <= len(value) <= _LONGEST_CELL:
        return None
    text = value.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes in the text
                parsed = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return parsed if isinstance(parsed, list) else None
    return None


def texts_in(value: object) -> list[str] | None:
    """The texts of a list of at least one text; None for anything else."""
    some = listed(value)
    return some if some and all(isinstance(text, str) for text in some) else None


def pairs_in(value: object) -> list[list[object]]:
    """The `[start, end]` in a cell: a pair, a list of pairs, or a text of two times; none for anything else."""
    if isinstance(value, dict):
        return _from_object(value)
    some = listed(value)
    if some is None:
        # `1,5` is one time with a decimal comma.
        if not isinstance(value, str) or len(value) > 100 or is_time(value):
            return []
        parts = [part for part in _BETWEEN.split(value.strip().strip("()[]")) if part]
        return [list(parts)] if len(parts) == 2 and all(map(is_time, parts)) else []
    if len(some) == 2 and all(map(is_time, some)):
        return [some]
    pairs = [list(pair) for pair in some if isinstance(pair, list | tuple) and len(pair) == 2]
    return pairs if len(pairs) == len(some) and all(is_time(time) for pair in pairs for time in pair) else []


def _from_object(value: dict[str, Any]) -> list[list[object]]:
    """`{"start": 1, "end": 2}` and `{"from": 1, "to": 2}`."""
    for start, end in (("start", "end"), ("from", "to"), ("begin", "end"), ("start_time", "end_time")):
        if start in value and end in value and is_time(value[start]) and is_time(value[end]):
            return [[value[start], value[end]]]
    return []


def is_time(value: object) -> bool:
    """True for a number and for a text that says a time."""
    try:
        seconds(value)
    except AnnotationError:
        return False
    return True
