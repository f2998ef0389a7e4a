"""Roles of columns by their names: which hold the video, the caption and the times, in which unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vla.datasets._pairs import is_time, listed, pairs_in
from vla.datasets._times import is_missing, seconds
from vla.errors import AnnotationError

# In the order of preference. Names are compared without case, blanks and punctuation: `videoid` also means `Video-ID`.
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
# The video's name, or its caption where another column names the video (WebVid).
NAME = "name"  # fmt: skip
CAPTION = (
    "caption", "captions", "text", "sentence", "sentences", "description", "query", "desc", "narration", "transcript",
    "utterance", "prompt", "question", "summary", "title", "label", "action",
)  # fmt: skip
SPLIT = ("split", "subset")
# Narrow names come first: a bare `id` may number the videos.
ID = ("query_id", "qid", "sen_id", "id")

_START = frozenset(("start", "starts", "starting", "begin", "begins", "beginning", "from", "onset", "st", "in"))
_END = frozenset(("end", "ends", "ending", "stop", "stops", "finish", "until", "to", "offset", "et", "out"))
_LENGTH = frozenset(("duration", "dur"))
_PAIR = frozenset(
    ("timestamp", "timestamps", "time", "times", "segment", "segments", "clip", "span", "spans", "window", "windows", "moment",
     "moments", "interval", "range", "ts", "timespan", "timerange", "bounds", "boundaries", "relevant", "gt")
)  # fmt: skip
# Words around the role: `clip_start_time` is a start. A word of two roles (`clip`, `time`) is a pair where it stands alone.
_FILLERS = _PAIR | {
    "t", "d", "at", "timecode", "tc", "event", "point", "video", "caption", "subtitle", "cue", "sub", "seg", "action", "offset",
    "pos", "position", "hh", "mm", "ff",
}  # fmt: skip
# `video_duration` is no length of a moment.
_OF_ANOTHER = frozenset(("video", "caption", "subtitle", "sub"))
# One of these words alone says that a number is a time; `clip: 3` may count clips.
_SURE = frozenset(("timestamp", "timestamps", "time", "times", "ts"))
_UNITS: Mapping[str, float] = {
    **dict.fromkeys(("ss", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "usec", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "mins", "minutes"), 60.0),
    **dict.fromkeys(("frame", "frames", "frm"), 0.0),
}
_NUMBERING = frozenset(("id", "idx", "index"))
_RATES = ("fps", "frame_rate", "video_fps")
# These say times whatever is in them: what cannot be read there is a fault.
_PLAIN = frozenset(("start", "starttime", "st", "end", "endtime", "et"))


@dataclass(frozen=True)
class Times:
    """Columns that say when; an empty name where there is no such column.

    Attributes:
        start: column of the start.
        end: column of the end.
        length: column of the length, where there is no end.
        pair: column of `[start, end]`, or of a list of those.
        rate: column of the frames per second, for columns that count frames.
    """

    start: str = ""
    end: str = ""
    length: str = ""
    pair: str = ""
    rate: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that are used, the rate's aside."""
        return frozenset(filter(None, (self.start, self.end, self.length, self.pair)))

    def pairs(self, row: Mapping[str, Any]) -> list[tuple[float, float]]:
        """`(start, end)` in seconds that the cells of a row say, unchecked; none where there are no times.

        Raises:
            AnnotationError: a cell holds no time, or one of two is missing.
        """
        if self.pair:
            value = row.get(self.pair)
            if is_missing(value):
                return []
            pairs = pairs_in(value)
            if not pairs and value != []:
                raise AnnotationError(f"{self.pair!r} must be [start, end], not {value!r:.60}")
            return [(self._seconds(start, self.pair, row), self._seconds(end, self.pair, row)) for start, end in pairs]
        last = self.end or self.length
        cells = [row.get(name) for name in (self.start, last)] if self.start else [None, None]
        start, end = cells
        lists = [listed(cell) for cell in cells]
        if lists[0] is not None and lists[1] is not None and len(lists[0]) == len(lists[1]):
            return [self._span(a, b, last, row) for a, b in zip(*lists, strict=True)]
        if is_missing(start) and is_missing(end):
            return []
        if is_missing(start) or is_missing(end):
            there, lacking = (self.start, last) if is_missing(end) else (last, self.start)
            raise AnnotationError(f"{there} {row.get(there)!r:.60} without {lacking}; give both or neither")
        return [self._span(start, end, last, row)]

    def _span(self, start: object, end: object, last: str, row: Mapping[str, Any]) -> tuple[float, float]:
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
            raise AnnotationError(f"{column!r} counts frames: seconds or a column fps are needed")
        return time / rate


def compact(name: str) -> str:
    """`name` without case, blanks and punctuation, for comparing."""
    return "".join(c for c in name.casefold() if c.isalnum())


def video_and_caption(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The columns of the video and of the caption; empty where there is none."""
    video, caption, name = first_of(VIDEO, columns), first_of(CAPTION, columns), first_of((NAME,), columns)
    if name and not video:
        return name, caption
    if name and not caption and mostly(lambda value: len(str(value).split()) > 1, name, rows):
        return video, name
    return video, caption


def first_of(usual: Sequence[str], columns: Iterable[str]) -> str:
    """The column with the first of these names that there is; empty if none."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(compact(column), column)
    return next((by_name[compact(name)] for name in usual if compact(name) in by_name), "")


def role_of(name: str) -> tuple[str, float]:
    """`start`, `end`, `length`, `pair` or an empty role, and seconds in the unit (0: frames) that a column's name says."""
    words = _words(name)
    units = [_UNITS[word] for word in words if word in _UNITS]
    unit = 1.0 if 1.0 in units else units[0] if units else 1.0
    rest = [w for w in words if w not in _UNITS and not (unit == 0 and w in _NUMBERING)]
    core = [word for word in rest if word not in _FILLERS]
    if len(core) == 1:
        word = core[0]
        is_length = word in _LENGTH and not _OF_ANOTHER & set(rest)
        return ("start" if word in _START else "end" if word in _END else "length" if is_length else ""), unit
    if core:
        return "", unit
    if "offset" in rest:
        return "end", unit
    return ("pair" if (not rest and unit == 0) or (rest and rest[-1] in _PAIR) else ""), unit


def times_in(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], taken: Iterable[str] = ()) -> Times:
    """The columns that say when, by their names and by what is in them.

    Args:
        columns: names, in the order of the file.
        rows: cells by column.
        taken: columns that mean something else.
    """
    used = set(taken)
    free = [c for c in columns if c and c not in used]
    roles = {c: role_of(c) for c in free}
    rate = first_of(_RATES, free)

    def best(role: str, fits: Callable[[object], bool] = _is_time_or_list) -> list[str]:
        """Columns of the role, seconds before frames; of equals the first of the file."""
        fitting = [
            c for c, (of_role, unit) in roles.items()
            if of_role == role and (unit or rate) and (compact(c) in _PLAIN or mostly(fits, c, rows))
        ]  # fmt: skip
        return sorted(fitting, key=lambda c: not roles[c][1])

    starts, ends = best("start"), best("end")
    for start in starts:
        same = [c for c in ends if roles[c][1] == roles[start][1]] or ends
        if same:
            return Times(start, same[0], rate=rate)
    for pair in best("pair", _is_pair):
        return Times(pair=pair, rate=rate)
    lengths = best("length")
    if starts and lengths:
        return Times(starts[0], length=lengths[0], rate=rate)
    return Times()


def look_like_times(columns: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns whose names and values are those of times; lengths aside."""
    found = []
    for column in columns:
        role = role_of(column)[0] if column else ""
        is_sure = role in ("start", "end") or bool(_SURE & set(_words(column)))
        if (role and role != "length") and (
            mostly(_is_pair, column, rows) or (is_sure and mostly(is_time, column, rows))
        ):
            found.append(column)
    return found


def mostly(fits: Callable[[object], bool], column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """True if half of the values that there are fit, and there are some."""
    values = [row[column] for row in rows if not is_missing(row.get(column))]
    return bool(values) and 2 * sum(map(fits, values)) >= len(values)


def _words(name: str) -> list[str]:
    """The words of a name: `startTime (s)` has three."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W_]+", parted.casefold())
    return [part for word in words for part in _split(word)]


def _split(word: str) -> list[str]:
    """`starttime` and `endsec` are two words without a mark between them."""
    for known in (*_START, *_END):
        rest = word.removeprefix(known)
        if len(known) > 2 and rest != word and (rest in _FILLERS or rest in _UNITS):
            return [known, rest]
    return [word]


def _is_time_or_list(value: object) -> bool:
    some = listed(value)
    return is_time(value) if some is None else bool(some) and all(map(is_time, some))


def _is_pair(value: object) -> bool:
    return bool(pairs_in(value))
