"""Which videos a search looks at: by name, length, date and what captions' tables say. What is left out changes no score of what
is not.
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
"""What one row of a captions table says: values by column, column names case-folded."""
_CONDITION = re.compile(r"\s*([^\s=<>!][^=<>!]*?)\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


@dataclass(frozen=True)
class MetadataFilter:
    """What a column of the captions table has to say.

    Attributes:
        column: its name, in any case.
        sign: `=`, `!=`, `<`, `<=`, `>` or `>=`.
        value: `=` and `!=` take `*`, `?` and `[...]` in it, in any case. The others compare numbers where both are numbers,
            else texts, so that dates like 2024-05-01 come in their order.
    """

    column: str
    sign: str
    value: str

    @classmethod
    def of(cls, text: str) -> MetadataFilter:
        """The condition that is written like `camera=front` or `year>=2020`; raises UsageError for anything else."""
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise UsageError(f"{text!r} is no condition: write COLUMN=VALUE, or !=, <, <=, > or >= in the place of =")
        return cls(found[1], found[2], found[3].strip())

    def holds(self, told: Metadata) -> bool:
        """True if a value that the row has in that column is so; of a column that it lacks, nothing holds but `!=`."""
        values = told.get(self.column.casefold(), ())
        if self.sign in ("=", "!="):
            fits = any(fnmatchcase(v.casefold(), self.value.casefold()) or v == self.value for v in values)
            return fits == (self.sign == "=")
        return any(_compared(value, self.sign, self.value) for value in values)


@dataclass(frozen=True)
class VideoFilter:
    """What a video has to be; by default, anything.

    Attributes:
        include: one of these fits it: a folder, a file, a bare name that is unique, or a pattern with `*`, `?` and `[...]`, which
            stay within a folder, and `**`, which is any number of folders. Paths count from the workspace's folder, else from the
            current one, or are absolute. Empty: any video.
        exclude: none of these does.
        min_duration: it is at least so long.
        max_duration: it is at most so long.
        modified_after: its file was last changed then or later, in seconds since 1970.
        modified_before: its file was last changed earlier.
        where: all of these hold for one row of the captions tables that tells of it.

    Raises:
        UsageError: no video could be all of this.
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
                    f"{pattern!r} is no pattern of names of videos: give a folder, a file, or e.g. '*.mp4'"
                )
        if not self.min_duration <= self.max_duration or self.max_duration < 0:
            raise UsageError(f"no video is at least {self.min_duration:g} s and at most {self.max_duration:g} s long")
        if not self.modified_after < self.modified_before:
            raise UsageError("no file was changed since a day and before the same day or an earlier one")

    @property
    def is_none(self) -> bool:
        """True if every video will do."""
        return self == VideoFilter()

    def allowed(
        self,
        names: NameMatcher,
        folders: Sequence[Path],
        receipts: Mapping[str, Receipt],
        told: Mapping[str, Sequence[Metadata]],
    ) -> list[bool]:
        """For each video of `names`, in order, whether it will do; `include` and `exclude` as `NameMatcher.select` has them.

        Args:
            names: of the videos.
            folders: that patterns count from.
            receipts: what the cache knows of each.
            told: what each row of the captions tables says, by video.

        Raises:
            UsageError: a bare name fits several videos.
        """
        inside = {v for pattern in self.include for v in names.select(pattern, *folders)}
        outside = {v for pattern in self.exclude for v in names.select(pattern, *folders)}
        rest = replace(self, include=(), exclude=())
        return [
            (not self.include or v in inside) and v not in outside and rest.allow(v, receipts.get(v), told.get(v, ()))
            for v in names.ids
        ]

    def allow(self, name: str, receipt: Receipt | None, told: Sequence[Metadata] = ()) -> bool:
        """True if the video will do, by patterns that count from the workspace's folder alone.

        What left the cache has neither length nor date, and will not do where these are asked for.

        Args:
            name: of the video.
            receipt: what the cache knows of it.
            told: what each row of the captions tables that tells of it says.
        """
        if self.include and not any(matches_pattern(name, pattern) for pattern in self.include):
            return False
        if any(matches_pattern(name, pattern) for pattern in self.exclude):
            return False
        if self.where and not any(all(c.holds(row) for c in self.where) for row in told):
            return False
        if (self.min_duration, self.max_duration, self.modified_after, self.modified_before) == (
            0.0,
            math.inf,
            -math.inf,
            math.inf,
        ):
            return True
        if receipt is None:
            return False
        changed = receipt.mtime_ns / 1e9
        return (
            self.min_duration <= receipt.duration_seconds <= self.max_duration
            and self.modified_after <= changed < self.modified_before
        )


def metadata_of(annotations: Sequence[Annotation]) -> dict[str, list[Metadata]]:
    """For each video, what its rows say: their metadata, with `caption`, `split` and `category` beside it."""
    found: dict[str, list[Metadata]] = {}
    for a in annotations:
        row: dict[str, list[str]] = {}
        own = (("caption", a.query), ("split", a.split), ("category", a.category))
        for column, value in (*a.metadata, *own):
            if value:
                row.setdefault(column.casefold(), []).append(value)
        found.setdefault(a.video, []).append(row)
    return found


def check_columns(where: Sequence[MetadataFilter], told: Mapping[str, Sequence[Metadata]]) -> None:
    """Raises UsageError for a column that no row has, with those that there are."""
    columns = {column for rows in told.values() for row in rows for column in row}
    for condition in where:
        if condition.column.casefold() not in columns:
            there = f"they have: {', '.join(sorted(columns)):.500}" if columns else "there are none here"
            raise UsageError(f"no captions of this workspace have a column {condition.column!r}; {there}")


def _compared(value: str, sign: str, wanted: str) -> bool:
    try:
        pair: tuple[float, float] | tuple[str, str] = float(value), float(wanted)
    except ValueError:
        pair = value, wanted
    mine, other = pair
    # Either both are numbers or both are texts, which the type checker cannot see.
    return {"<": mine < other, "<=": mine <= other, ">": mine > other, ">=": mine >= other}[sign]  # type: ignore[operator]
