"""Which videos a search looks at: by name, length and date. What is left out changes no score of what is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vla.cache.receipts import Receipt
from vla.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What a video has to be; by default, anything.

    Attributes:
        inside: one of these patterns fits its name (as `vla ls` shows it, folders divided by `/`): a folder, a file, or with
            `*`, `?` and `[...]`, where `*` also stands for folders. Empty: any name.
        outside: none of these does.
        least_seconds: it is at least so long.
        most_seconds: it is at most so long.
        since: its file was last changed then or later, in seconds since 1970.
        before: its file was last changed earlier.

    Raises:
        UsageError: no video could be all of this.
    """

    inside: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    least_seconds: float = 0.0
    most_seconds: float = math.inf
    since: float = -math.inf
    before: float = math.inf

    def __post_init__(self) -> None:
        for pattern in (*self.inside, *self.outside):
            if not pattern.strip("/"):
                raise UsageError(
                    f"{pattern!r} is no pattern of names of videos: give a folder, a file, or e.g. '*.mp4'"
                )
        if not self.least_seconds <= self.most_seconds or self.most_seconds < 0:
            raise UsageError(f"no video is at least {self.least_seconds:g} s and at most {self.most_seconds:g} s long")
        if not self.since < self.before:
            raise UsageError("no file was changed since a day and before the same day or an earlier one")

    @property
    def is_none(self) -> bool:
        """True if every video will do."""
        return self == Limits()

    def allow(self, name: str, receipt: Receipt | None) -> bool:
        """True if the video will do; what left the cache has neither length nor date, and will not where these are asked for."""
        if self.inside and not any(_fits(name, pattern) for pattern in self.inside):
            return False
        if any(_fits(name, pattern) for pattern in self.outside):
            return False
        if (self.least_seconds, self.most_seconds, self.since, self.before) == (0.0, math.inf, -math.inf, math.inf):
            return True
        if receipt is None:
            return False
        changed = receipt.mtime_ns / 1e9
        return (
            self.least_seconds <= receipt.duration_seconds <= self.most_seconds and self.since <= changed < self.before
        )


def _fits(name: str, pattern: str) -> bool:
    whole = pattern.removeprefix("./").rstrip("/")
    # A folder stands for all that is in it, and so does a pattern that fits one.
    return fnmatchcase(name, whole) or fnmatchcase(name, f"{whole}/*") or name == whole or name.startswith(f"{whole}/")
