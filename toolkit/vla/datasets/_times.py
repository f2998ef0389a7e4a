"""Times as files write them."""

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
    """Seconds of a time: `12.5`, `mm:ss` or `hh:mm:ss.mmm`, with a dot or a comma before the decimals.

    A negative time is parsed as such; whether it makes sense is for the span to say.

    Raises:
        AnnotationError: the text is none of these, or not finite.
    """
    plain = text.strip().replace(",", ".")
    if _NUMBER.fullmatch(plain) and math.isfinite(float(plain)):
        return float(plain)
    clock = _CLOCK.fullmatch(plain)
    if clock:
        sign, hours, minutes, rest = clock[1], int(clock[2] or 0), int(clock[3]), float(clock[4])
        if rest < 60 and (clock[2] is None or minutes < 60):
            return (hours * 3600 + minutes * 60 + rest) * (-1 if sign else 1)
    raise AnnotationError(f"{text!r:.60} is not a time; write seconds (12.5), mm:ss or hh:mm:ss.mmm")


def seconds(value: object) -> float:
    """Seconds of what a file holds for a time: a number, or a text that `parse_seconds` takes.

    Raises:
        AnnotationError: it is neither.
    """
    if isinstance(value, str):
        return parse_seconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise AnnotationError(f"{value!r:.60} is not a time; write seconds (12.5), mm:ss or hh:mm:ss.mmm")


def spans_of(start: object, end: object) -> Spans:
    """The one span from `start` to `end`, or none where both are missing: the caption tells of the whole video.

    Raises:
        AnnotationError: only one of them is there, one is not a time, or they are not a span.
    """
    has_start, has_end = not is_missing(start), not is_missing(end)
    if has_start != has_end:
        there, lacking = ("start", "end") if has_start else ("end", "start")
        raise AnnotationError(f"{there} {(start if has_start else end)!r:.60} without {lacking}; give both or neither")
    if not has_start:
        return ()
    span = seconds(start), seconds(end)
    check_span(*span)
    return (span,)


def check_span(start: float, end: float) -> None:
    """Nothing, if a moment can last from `start` to `end`; raises AnnotationError otherwise."""
    if not (math.isfinite(start) and math.isfinite(end)):
        raise AnnotationError(f"span {start} to {end} s: both must be finite")
    if start < 0:
        raise AnnotationError(f"span {start} to {end} s starts before 0")
    if end <= start:
        raise AnnotationError(f"span {start} to {end} s must end after its start")


def is_missing(value: object) -> bool:
    """True for None, NaN, a blank text, and the words that tools write for no value (`nan`, `None`, `null`, `<NA>`)."""
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or value != value
