"""When frames are shown and how long videos are, where released features do not say it themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from vla.datasets._reading import Problems
from vla.datasets._rows import read_rows
from vla.datasets._times import seconds
from vla.errors import AnnotationError, FormatError, UsageError
from vla.hints import Hint
from vla.sampling import at_fps
from vla.video import SUFFIXES

ORIGINAL_TIMES = "as released"
"""The sampling of features that come with their own times."""
_VIDEOS = ("video", "video_id", "vid", "name", "video_name", "path", "file", "filename")
_DURATIONS = ("duration", "duration_seconds", "length", "seconds")


@dataclass(frozen=True)
class Timing:
    """A rule for files without times: frame number k is shown at `k * numerator / denominator` seconds.

    Attributes:
        numerator: 0 where there is no rule.
        denominator: positive.
        duration: of every video for which nothing else says it; 0 where that is not known.
        durations: of single videos, by their names; these come first.
    """

    numerator: float = 0.0
    denominator: float = 1.0
    duration: float = 0.0
    durations: Mapping[str, float] | None = None

    @property
    def step_seconds(self) -> float:
        """From one frame to the next; 0 without a rule."""
        return self.numerator / self.denominator

    @property
    def sampling(self) -> str:
        """How frames were chosen, as a feature space names it."""
        return str(at_fps(self.denominator / self.numerator)) if self.numerator else ORIGINAL_TIMES

    def times_of(self, count: int) -> np.ndarray:
        """`(count,)` seconds by the rule; raises FormatError without one."""
        if not self.numerator:
            raise FormatError("it has no times", hint=Hint("name_sampling"))
        return np.arange(count) * self.numerator / self.denominator

    def duration_of(self, video_id: str) -> float:
        """What was said of this video, in seconds; 0 where nothing was."""
        named = self.durations or {}
        last = PurePath(video_id).name
        return named.get(video_id) or named.get(_bare(last)) or self.duration


def timing_of(
    *,
    fps: float | None,
    stride: int | None,
    video_fps: float | None,
    clip_length: float | None,
    duration: float | None,
    durations: Path | None,
) -> Timing:
    """The rule that is asked for; see `vla.import_features`.

    Raises:
        UsageError: two rules, half of one, or numbers that make none.
        AnnotationError: the file of durations cannot be used.
    """
    if (stride is None) != (video_fps is None):
        raise UsageError(
            "a stride counts frames of the video: it goes with their rate, and the other way round",
            hint=Hint("name_stride"),
        )
    rules = sum(rule is not None for rule in (fps, stride, clip_length))
    if rules > 1:
        raise UsageError(
            f"features are sampled by one rule, not by {rules}",
            hint=Hint("name_sampling"),
        )
    given = {
        "fps": fps,
        "stride": stride,
        "video_fps": video_fps,
        "clip_length": clip_length,
        "duration": duration,
    }
    for option, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{option}= must be above 0, not {value:g}")
    numerator, denominator = 0.0, 1.0
    if fps is not None:
        numerator, denominator = 1.0, fps
    elif stride is not None and video_fps is not None:
        numerator, denominator = float(stride), video_fps
    elif clip_length is not None:
        numerator, denominator = clip_length, 1.0
    if numerator and not 0 < denominator / numerator <= 240:
        raise UsageError(f"{denominator / numerator:g} features a second cannot be: at most 240 are known")
    return Timing(numerator, denominator, duration or 0.0, read_durations(durations) if durations else None)


def read_durations(path: Path) -> dict[str, float]:
    """Seconds by the video's name, and by its file name without suffix, from a CSV, TSV, JSONL or JSON with a row for each.

    Raises:
        AnnotationError: it cannot be read, lacks a column, or gives one video two durations.
    """
    problems = Problems()
    rows = read_rows(path, problems)
    columns = {c.casefold(): c for c in rows.columns}
    named = [next((columns[n] for n in usual if n in columns), "") for usual in (_VIDEOS, _DURATIONS)]
    if not all(named):
        raise AnnotationError(
            f"{path} needs the columns video and duration; it has {', '.join(rows.columns) or 'none'}"
        )
    found: dict[str, float] = {}
    by_file: dict[str, set[float]] = {}
    for row in rows.rows:
        try:
            name, length = str(row.cells.get(named[0])).strip(), seconds(row.cells.get(named[1]))
            if not (math.isfinite(length) and length > 0):
                raise AnnotationError(f"a video is longer than 0 s, not {length:g}")
            if found.setdefault(name, length) != length:
                raise AnnotationError(f"{name!r} is {found[name]:g} s and {length:g} s long")
            by_file.setdefault(_bare(PurePath(name).name), set()).add(length)
        except AnnotationError as error:
            problems.add(row.line, str(error))
    problems.raise_if_any(path)
    # Files of one name in two folders may be two videos; then only the whole name tells.
    return {name: min(lengths) for name, lengths in by_file.items() if len(lengths) == 1} | found


def _bare(name: str) -> str:
    path = PurePath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name
