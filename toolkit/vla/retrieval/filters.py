"""Filters on the videos that a search covers.

By name, duration, modification time and caption metadata.

Filters do not change the scores of the videos that pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from vla.cache.receipts import Receipt
from vla.datasets.base import Annotation
from vla.errors import UsageError
from vla.naming.matching import NameMatcher
from vla.naming.paths import matches_pattern

Metadata = Mapping[str, Sequence[str]]
"""One row of a captions table: values by column, with column names case-folded."""
_CONDITION = re.compile(r"\s*([^\s=<>!][^=<>!]*?)\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


@dataclass(frozen=True)
class MetadataFilter:
    """A condition on a column of the captions table.

    Attributes:
        column: name of the column; case is ignored.
        sign: `=`, `!=`, `<`, `<=`, `>` or `>=`.
        value: value to compare with. `=` and `!=` ignore case and accept the wildcards `*`, `?` and
            `[...]`. The other signs compare as numbers if both sides are numbers, else as texts, so
            dates like 2024-05-01 sort correctly.
    """

    column: str
    sign: str
    value: str

    @classmethod
    def of(cls, text: str) -> MetadataFilter:
        """Parse a condition such as `camera=front` or `year>=2020`.

        Raises UsageError for any other text.
        """
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise UsageError(
                f"invalid condition {text!r}: write COLUMN=VALUE, or use !=, <, <=, > or >="
            )
        return cls(match[1], match[2], match[3].strip())

    def holds(self, metadata: Metadata) -> bool:
        """Return whether a value of the row meets the condition.

        A row without the column only meets `!=`.
        """
        values = metadata.get(self.column.casefold(), ())
        if self.sign in ("=", "!="):
            is_equal = any(
                fnmatchcase(v.casefold(), self.value.casefold()) or v == self.value for v in values
            )
            return is_equal == (self.sign == "=")
        return any(_compare(value, self.sign, self.value) for value in values)


@dataclass(frozen=True)
class VideoFilter:
    """Conditions that a video must meet; the default accepts every video.

    Attributes:
        include: patterns of which a video must match at least one; empty for any video. A pattern
            is a folder, a file, a unique bare name, or a glob: `*`, `?` and `[...]` stay within a
            folder, `**` spans folders. Relative paths start at the workspace folder, or else at the
            current folder.
        exclude: patterns of which a video must match none.
        min_duration: minimum duration of the video, in seconds.
        max_duration: maximum duration of the video, in seconds.
        modified_after: earliest modification time of the file, inclusive, in seconds since 1970.
        modified_before: latest modification time of the file, exclusive, in seconds since 1970.
        where: conditions that one row of the captions table about the video must meet together.

    Raises:
        UsageError: a pattern is empty, or a minimum exceeds its maximum.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_duration: float = 0.0
    max_duration: float = math.inf
    modified_after: float = -math.inf
    modified_before: float = math.inf
    where: tuple[MetadataFilter, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.include, *self.exclude):
            if not pattern.strip("/"):
                raise UsageError(
                    f"invalid video pattern {pattern!r}: give a folder, a file, or a glob such "
                    f"as '*.mp4'"
                )
        if not self.min_duration <= self.max_duration or self.max_duration < 0:
            raise UsageError(
                f"invalid video duration range {self.min_duration:g} to {self.max_duration:g} s: "
                "the minimum exceeds the maximum"
            )
        if not self.modified_after < self.modified_before:
            raise UsageError("invalid modification time range: its start is not before its end")

    @property
    def is_empty(self) -> bool:
        """Return whether every video passes."""
        return self == VideoFilter()

    def mask(
        self,
        names: NameMatcher,
        folders: Sequence[Path],
        receipts: Mapping[str, Receipt],
        metadata: Mapping[str, Sequence[Metadata]],
    ) -> list[bool]:
        """Return whether each video of `names` passes, in order.

        `include` and `exclude` match as in `Names.chosen`.

        Args:
            names: names of the videos.
            folders: folders that relative patterns start at.
            receipts: receipts by video.
            metadata: rows of the captions tables by video.

        Raises:
            UsageError: a bare name matches several videos.
        """
        include_ids = {v for pattern in self.include for v in names.select(pattern, *folders)}
        exclude_ids = {v for pattern in self.exclude for v in names.select(pattern, *folders)}
        rest = replace(self, include=(), exclude=())
        return [
            (not self.include or v in include_ids)
            and v not in exclude_ids
            and rest.accepts(v, receipts.get(v), metadata.get(v, ()))
            for v in names.ids
        ]

    def accepts(
        self, name: str, receipt: Receipt | None, metadata: Sequence[Metadata] = ()
    ) -> bool:
        """Return whether a video passes; patterns start at the workspace folder alone.

        A video without a receipt has neither duration nor modification time, and fails filters on
        these.

        Args:
            name: name of the video.
            receipt: receipt of the video; None if it left the cache.
            metadata: rows of the captions tables about the video.
        """
        if self.include and not any(matches_pattern(name, pattern) for pattern in self.include):
            return False
        if any(matches_pattern(name, pattern) for pattern in self.exclude):
            return False
        if self.where and not any(all(c.holds(row) for c in self.where) for row in metadata):
            return False
        if replace(self, include=(), exclude=(), where=()).is_empty:
            return True
        if receipt is None:
            return False
        mtime = receipt.mtime_ns / 1e9
        return (
            self.min_duration <= receipt.duration_seconds <= self.max_duration
            and self.modified_after <= mtime < self.modified_before
        )


def metadata_of(annotations: Sequence[Annotation]) -> dict[str, list[Metadata]]:
    """Return the rows of each video.

    Their metadata, plus the columns `caption`, `split` and `category`.
    """
    rows: dict[str, list[Metadata]] = {}
    for a in annotations:
        row: dict[str, list[str]] = {}
        own = (("caption", a.query), ("split", a.split), ("category", a.category))
        for column, value in (*a.metadata, *own):
            if value:
                row.setdefault(column.casefold(), []).append(value)
        rows.setdefault(a.video, []).append(row)
    return rows


def check_columns(
    where: Sequence[MetadataFilter], metadata: Mapping[str, Sequence[Metadata]]
) -> None:
    """Raise UsageError if a column occurs in no row; the message lists the columns that do."""
    columns = {column for rows in metadata.values() for row in rows for column in row}
    for condition in where:
        if condition.column.casefold() not in columns:
            listing = (
                f"columns are: {', '.join(sorted(columns)):.500}"
                if columns
                else "there are no captions"
            )
            raise UsageError(f"captions have no column {condition.column!r}; {listing}")


def _compare(value: str, sign: str, reference: str) -> bool:
    try:
        pair: tuple[float, float] | tuple[str, str] = float(value), float(reference)
    except ValueError:
        pair = value, reference
    left, right = pair
    # Either both are numbers or both are texts, which the type checker cannot see.
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign]  # type: ignore[operator]
