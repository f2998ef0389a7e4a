"""Parse query options: weighted texts, files of queries, durations and dates."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vla.localization.duration_range import DurationRange
    from vla.retrieval.query import Weighted


def weighted_texts(texts: list[str] | None, default: float, option: str) -> tuple[Weighted, ...]:
    """Parse texts of the form `TEXT` or `TEXT^WEIGHT`."""
    pairs = []
    for text in texts or ():
        head, mark, weight = text.rpartition("^")
        try:
            pairs.append((head, float(weight)) if mark else (text, default))
        except ValueError as error:
            raise typer.BadParameter(
                f"invalid weight {weight!r}: write TEXT^WEIGHT, e.g. 'snow^0.5'", param_hint=option
            ) from error
    return tuple(pairs)


def read_queries(path: Path) -> list[str]:
    """Read a file with one query per line, without blank lines; `-` is standard input.

    Raises:
        UsageError: the file is not UTF-8 or has no query.
    """
    from vla.errors import UsageError
    from vla.storage.regular_files import read_regular

    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read()
        else:
            data = read_regular(path, what="file of queries (- reads stdin)")
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the queries in {path} are not UTF-8 (byte {error.start}): save them as UTF-8"
        ) from error
    queries = [line.strip() for line in lines if line.strip()]
    if not queries:
        raise UsageError(f"no query in {path}: write one per line")
    return queries


def seconds(text: str, option: str) -> float:
    """Parse a duration such as `90`, `1:30`, `1:02:03`, `90s`, `5m` or `2h`, in seconds."""
    from vla.datasets._times import parse_seconds
    from vla.errors import AnnotationError

    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    try:
        value = parse_seconds(text) if unit is None else parse_seconds(text[:-1]) * unit
    except AnnotationError:
        value = -1.0
    if value < 0:
        raise typer.BadParameter(
            f"invalid duration {text!r}: write seconds, or e.g. 1:30, 5m, 2h", param_hint=option
        )  # fmt: skip
    return value


def duration_range(text: str, option: str) -> DurationRange:
    """Parse a range such as `2-10`, `30s-2m`, `5-`, `-10` or `any`, in seconds."""
    from vla.localization.duration_range import ANY_DURATION

    if text.strip().lower() == "any":
        return ANY_DURATION
    minimum, dash, maximum = (part.strip() for part in text.partition("-"))
    if not dash or not (minimum or maximum):
        raise typer.BadParameter(
            f"invalid duration range {text!r}: write e.g. 2-10, 30s-2m, 5- or any",
            param_hint=option,
        )
    return (
        seconds(minimum, option) if minimum else ANY_DURATION[0],
        seconds(maximum, option) if maximum else ANY_DURATION[1],
    )


def timestamp(text: str, option: str) -> float:
    """Parse a local date such as `2024-05-01`; the result is in seconds since 1970."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise typer.BadParameter(
            f"invalid date {text!r}: write it like 2024-05-01", param_hint=option
        ) from error  # fmt: skip
