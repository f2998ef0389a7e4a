"""Detection of the roles of columns by their names: video, caption, times and their units."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vla.datasets._pairs import is_time, parse_list, parse_pairs
from vla.datasets._times import is_missing, seconds
from vla.errors import AnnotationError

# In order of preference. Names are compared in normalized form: `videoid` also matches `Video-ID`.
VIDEO = (
    "video",
    "video_id",
    "video_name",
    "video_file",
    "video_path",
    "vid",
    "vid_name",
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "youtube_id",
    "yt_id",
    "clip_id",
    "clip_name",
    "media",
    "media_path",
    "url",
    "video_url",
)
# The name of the video, or its caption if another column names the video (WebVid).
NAME = "name"  # fmt: skip
CAPTION = (
    "caption", "captions", "text", "sentence", "sentences", "description", "query", "desc", "narration", "transcript",
    "utterance", "prompt", "question", "summary", "title", "label", "action",
)  # fmt: skip
SPLIT = ("split", "subset")
# Narrow names come first: a bare `id` may number the videos.
ID = ("query_id", "qid", "sen_id", "id")

_START = frozenset(
    ("start", "starts", "starting", "begin", "begins", "beginning", "from", "onset", "st", "in")
)
_END = frozenset(
    ("end", "ends", "ending", "stop", "stops", "finish", "until", "to", "offset", "et", "out")
)
_LENGTH = frozenset(("duration", "dur"))
_PAIR = frozenset(
    ("timestamp", "timestamps", "time", "times", "segment", "segments", "clip", "span", "spans", "window", "windows", "moment",
     "moments", "interval", "range", "ts", "timespan", "timerange", "bounds", "boundaries", "relevant", "gt")
)  # fmt: skip
# Words around the role: `clip_start_time` is a start. A word with two roles (`clip`, `time`) is a
# pair if it is alone.
_FILLERS = _PAIR | {
    "t", "d", "at", "timecode", "tc", "event", "point", "video", "caption", "subtitle", "cue", "sub", "seg", "action", "offset",
    "pos", "position", "hh", "mm", "ff",
}  # fmt: skip
# `video_duration` is not the length of a moment.
_OTHER_LENGTHS = frozenset(("video", "caption", "subtitle", "sub"))
# One of these words is enough for a number to be a time; `clip: 3` may be a clip number.
_UNAMBIGUOUS = frozenset(("timestamp", "timestamps", "time", "times", "ts"))
_UNITS: Mapping[str, float] = {
    **dict.fromkeys(("ss", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(
        ("ms", "msec", "msecs", "millis", "millisec", "millisecond", "milliseconds"), 1e-3
    ),
    **dict.fromkeys(("us", "usec", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "mins", "minutes"), 60.0),
    **dict.fromkeys(("frame", "frames", "frm"), 0.0),
}
_NUMBERING = frozenset(("id", "idx", "index"))
_RATES = ("fps", "frame_rate", "video_fps")
# Columns of these names always hold times: an unreadable value is a fault.
_STRICT = frozenset(("start", "starttime", "st", "end", "endtime", "et"))


@dataclass(frozen=True)
class TimeColumns:
    """Columns that hold times; a name is empty if there is no such column.

    Attributes:
        start: column of the start.
        end: column of the end.
        length: column of the length, if there is no end.
        pair: column of `[start, end]`, or of a list of these.
        rate: column of the frames per second, for columns in frames.
    """

    start: str = ""
    end: str = ""
    length: str = ""
    pair: str = ""
    rate: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns in use, without the rate."""
        return frozenset(filter(None, (self.start, self.end, self.length, self.pair)))

    def pairs(self, row: Mapping[str, Any]) -> list[tuple[float, float]]:
        """Return `(start, end)` in seconds from the cells of a row, unchecked; empty if there are
        no times.

        Raises:
            AnnotationError: a cell is not a time, or one of two is missing.
        """
        if self.pair:
            value = row.get(self.pair)
            if is_missing(value):
                return []
            pairs = parse_pairs(value)
            if not pairs and value != []:
                raise AnnotationError(f"{self.pair!r} must be [start, end], not {value!r:.60}")
            return [
                (self._seconds(start, self.pair, row), self._seconds(end, self.pair, row))
                for start, end in pairs
            ]
        last = self.end or self.length
        cells = [row.get(name) for name in (self.start, last)] if self.start else [None, None]
        start, end = cells
        lists = [parse_list(cell) for cell in cells]
        if lists[0] is not None and lists[1] is not None and len(lists[0]) == len(lists[1]):
            return [self._span(a, b, last, row) for a, b in zip(*lists, strict=True)]
        if is_missing(start) and is_missing(end):
            return []
        if is_missing(start) or is_missing(end):
            present, absent = (self.start, last) if is_missing(end) else (last, self.start)
            raise AnnotationError(
                f"{present} {row.get(present)!r:.60} without {absent}; give both or neither"
            )
        return [self._span(start, end, last, row)]

    def _span(
        self, start: object, end: object, last: str, row: Mapping[str, Any]
    ) -> tuple[float, float]:
        first, second = self._seconds(start, self.start, row), self._seconds(end, last, row)
        return first, second + first if last == self.length else second

    def _seconds(self, value: object, column: str, row: Mapping[str, Any]) -> float:
        time, unit = seconds(value), role_of(column)[1]
        if unit == 1 or (isinstance(value, str) and ":" in value):
            return time
        if unit:
            return time * unit
        rate = seconds(row.get(self.rate)) if self.rate else 0.0
        if not 0 < rate < 1e6:
            raise AnnotationError(f"{column!r} counts frames: use seconds, or add a column fps")
        return time / rate


def normalize_name(name: str) -> str:
    """Return `name` in lower case without blanks and punctuation."""
    return "".join(c for c in name.casefold() if c.isalnum())


def video_and_caption(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the columns of the video and of the caption; empty if there is none."""
    video, caption, name = (
        first_of(VIDEO, columns),
        first_of(CAPTION, columns),
        first_of((NAME,), columns),
    )
    if name and not video:
        return name, caption
    if name and not caption and mostly(lambda value: len(str(value).split()) > 1, name, rows):
        return video, name
    return video, caption


def first_of(usual: Sequence[str], columns: Iterable[str]) -> str:
    """Return the column with the first matching name of `usual`; empty if there is none."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(normalize_name(column), column)
    return next(
        (by_name[normalize_name(name)] for name in usual if normalize_name(name) in by_name), ""
    )


def role_of(name: str) -> tuple[str, float]:
    """Return the role of a column name (`start`, `end`, `length`, `pair` or empty) and its unit in
    seconds (0: frames).
    """
    words = _words(name)
    units = [_UNITS[word] for word in words if word in _UNITS]
    unit = 1.0 if 1.0 in units else units[0] if units else 1.0
    rest = [w for w in words if w not in _UNITS and not (unit == 0 and w in _NUMBERING)]
    core = [word for word in rest if word not in _FILLERS]
    if len(core) == 1:
        word = core[0]
        is_length = word in _LENGTH and not _OTHER_LENGTHS & set(rest)
        return (
            "start" if word in _START else "end" if word in _END else "length" if is_length else ""
        ), unit
    if core:
        return "", unit
    if "offset" in rest:
        return "end", unit
    return ("pair" if (not rest and unit == 0) or (rest and rest[-1] in _PAIR) else ""), unit


def find_time_columns(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], other_columns: Iterable[str] = ()
) -> TimeColumns:
    """Return the columns that hold times, by their names and values.

    Args:
        columns: names, in the order of the file.
        rows: cells by column.
        other_columns: columns with another role.
    """
    others = set(other_columns)
    free = [c for c in columns if c and c not in others]
    roles = {c: role_of(c) for c in free}
    rate = first_of(_RATES, free)

    def best(role: str, fits: Callable[[object], bool] = _is_time_or_list) -> list[str]:
        """Return the columns of the role: seconds before frames, then in the order of the file."""
        matches = [
            c for c, (column_role, unit) in roles.items()
            if column_role == role and (unit or rate) and (normalize_name(c) in _STRICT or mostly(fits, c, rows))
        ]  # fmt: skip
        return sorted(matches, key=lambda c: not roles[c][1])

    starts, ends = best("start"), best("end")
    for start in starts:
        same = [c for c in ends if roles[c][1] == roles[start][1]] or ends
        if same:
            return TimeColumns(start, same[0], rate=rate)
    for pair in best("pair", _is_pair):
        return TimeColumns(pair=pair, rate=rate)
    lengths = best("length")
    if starts and lengths:
        return TimeColumns(starts[0], length=lengths[0], rate=rate)
    return TimeColumns()


def look_like_times(columns: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns whose names and values look like times; lengths are not included."""
    matches = []
    for column in columns:
        role = role_of(column)[0] if column else ""
        is_sure = role in ("start", "end") or bool(_UNAMBIGUOUS & set(_words(column)))
        if (role and role != "length") and (
            mostly(_is_pair, column, rows) or (is_sure and mostly(is_time, column, rows))
        ):
            matches.append(column)
    return matches


def mostly(fits: Callable[[object], bool], column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether `fits` holds for at least half of the values that are not missing, and for at
    least one.
    """
    values = [row[column] for row in rows if not is_missing(row.get(column))]
    return bool(values) and 2 * sum(map(fits, values)) >= len(values)


def _words(name: str) -> list[str]:
    """Split a name into words: `startTime (s)` has three."""
    with_spaces = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W_]+", with_spaces.casefold())
    return [part for word in words for part in _split(word)]


def _split(word: str) -> list[str]:
    """Split words without a separator, e.g. `starttime` and `endsec`."""
    for prefix in (*_START, *_END):
        rest = word.removeprefix(prefix)
        if len(prefix) > 2 and rest != word and (rest in _FILLERS or rest in _UNITS):
            return [prefix, rest]
    return [word]


def _is_time_or_list(value: object) -> bool:
    values = parse_list(value)
    return is_time(value) if values is None else bool(values) and all(map(is_time, values))


def _is_pair(value: object) -> bool:
    return bool(parse_pairs(value))
