"""Parsers and checks of the times in annotation files."""

from __future__ import annotations

import math
import re

from vla.errors import AnnotationError

Spans = tuple[tuple[float, float], ...]

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Cells that pandas, R and JavaScript write where there is no value.
_MISSING = frozenset(("", "nan", "none", "null", "nat", "na", "n/a", "<na>", "undefined"))
_CLOCK = re.compile(r"(-?)(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,2}(?:\.[0-9]*)?)")


def parse_seconds(text: str) -> float:
    """Return the seconds of a time: `12.5`, `mm:ss` or `hh:mm:ss.mmm`; the decimal mark is a dot
    or a comma.

    Negative times are accepted; `check_span` rejects them.

    Raises:
        AnnotationError: the text has none of these forms or is not finite.
    """
    plain = text.strip().replace(",", ".")
    if _NUMBER.fullmatch(plain) and math.isfinite(float(plain)):
        return float(plain)
    clock = _CLOCK.fullmatch(plain)
    if clock:
        sign, hours, minutes, rest = clock[1], int(clock[2] or 0), int(clock[3]), float(clock[4])
        if rest < 60 and (clock[2] is None or minutes < 60):
            return (hours * 3600 + minutes * 60 + rest) * (-1 if sign else 1)
    raise AnnotationError(
        f"{text!r:.60} is not a time; write seconds (12.5), mm:ss or hh:mm:ss.mmm"
    )


def seconds(value: object) -> float:
    """Return the seconds of a time value: a number, or a text for `parse_seconds`.

    Raises:
        AnnotationError: the value is neither.
    """
    if isinstance(value, str):
        return parse_seconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise AnnotationError(
        f"{value!r:.60} is not a time; write seconds (12.5), mm:ss or hh:mm:ss.mmm"
    )


def spans_of(start: object, end: object) -> Spans:
    """Return the span from `start` to `end`, or no span if both are missing (the whole video).

    Raises:
        AnnotationError: only one of them is missing, one is not a time, or the span is invalid.
    """
    has_start, has_end = not is_missing(start), not is_missing(end)
    if has_start != has_end:
        present, absent = ("start", "end") if has_start else ("end", "start")
        raise AnnotationError(
            f"{present} {(start if has_start else end)!r:.60} without {absent}; give both or "
            f"neither"
        )
    if not has_start:
        return ()
    span = seconds(start), seconds(end)
    check_span(*span)
    return (span,)


def check_span(start: float, end: float) -> None:
    """Check that `start` and `end` are a valid span; raises AnnotationError otherwise."""
    if not (math.isfinite(start) and math.isfinite(end)):
        raise AnnotationError(f"span {start} to {end} s: both must be finite")
    if start < 0:
        raise AnnotationError(f"span {start} to {end} s starts before 0")
    if end <= start:
        raise AnnotationError(f"span {start} to {end} s must end after its start")


def is_missing(value: object) -> bool:
    """Return whether a value is None, NaN, blank, or a word for no value (`nan`, `None`, `null`,
    `<NA>`).
    """
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or value != value
