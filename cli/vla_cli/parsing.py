"""What is asked on the command line: texts with weights, files of queries, times, and which videos to look at."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vla.retrieval.duration_prior import DurationRange
    from vla.retrieval.filters import VideoFilter
    from vla.retrieval.query import Weighted


def weighted(texts: list[str] | None, usual: float, option: str) -> tuple[Weighted, ...]:
    """Each of `TEXT` or `TEXT^WEIGHT`."""
    found = []
    for text in texts or ():
        said, mark, weight = text.rpartition("^")
        try:
            found.append((said, float(weight)) if mark else (text, usual))
        except ValueError as error:
            raise typer.BadParameter(
                f"{weight!r} is no weight: write TEXT^WEIGHT, e.g. 'snow^0.5'", param_hint=option
            ) from error
    return tuple(found)


def lines(path: Path) -> list[str]:
    """The queries in a file, one a line; blank lines are none."""
    from vla.errors import UsageError
    from vla.storage.regular_files import read_regular

    try:
        data = (
            sys.stdin.buffer.read() if str(path) == "-" else read_regular(path, what="file of queries (- reads stdin)")
        )
        every = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"the queries in {path} are no UTF-8 text (byte {error.start}): save them as UTF-8") from error
    found = [line.strip() for line in every if line.strip()]
    if not found:
        raise UsageError(f"there is no query in {path}: write one on each line")
    return found


def limits(
    inside: list[str] | None, outside: list[str] | None, longer: str | None, shorter: str | None, since: str | None,
    before: str | None, where: list[str] | None,
) -> VideoFilter:  # fmt: skip
    """Which videos to look at; what is not given limits nothing."""
    from vla.retrieval.filters import MetadataFilter, VideoFilter

    given = {
        "min_duration": None if longer is None else seconds(longer, "--longer"),
        "max_duration": None if shorter is None else seconds(shorter, "--shorter"),
        "modified_after": None if since is None else day(since, "--since"),
        "modified_before": None if before is None else day(before, "--before"),
    }
    conditions = tuple(map(MetadataFilter.of, where or ()))
    numbers = {k: v for k, v in given.items() if v is not None}
    return VideoFilter(tuple(inside or ()), tuple(outside or ()), **numbers, where=conditions)


def seconds(text: str, option: str) -> float:
    """Seconds of `90`, `1:30`, `1:02:03`, `90s`, `5m` or `2h`."""
    from vla.datasets._times import parse_seconds
    from vla.errors import AnnotationError

    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    try:
        found = parse_seconds(text) if unit is None else parse_seconds(text[:-1]) * unit
    except AnnotationError:
        found = -1.0
    if found < 0:
        raise typer.BadParameter(f"{text!r} is no length: give seconds, or e.g. 1:30, 5m, 2h", param_hint=option)
    return found


def length(text: str, option: str) -> DurationRange:
    """Seconds at least and at most of `2-10`, `30s-2m`, `5-`, `-10` or `any`."""
    from vla.retrieval.duration_prior import ANY_DURATION

    if text.strip().lower() == "any":
        return ANY_DURATION
    least, mark, most = (part.strip() for part in text.partition("-"))
    if not mark or not (least or most):
        raise typer.BadParameter(
            f"{text!r} is no range of lengths: write e.g. 2-10, 30s-2m, 5- or any", param_hint=option
        )
    return seconds(least, option) if least else ANY_DURATION[0], seconds(most, option) if most else ANY_DURATION[1]


def day(text: str, option: str) -> float:
    """Seconds since 1970 when that day began here."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise typer.BadParameter(f"{text!r} is no day: write it like 2024-05-01", param_hint=option) from error
