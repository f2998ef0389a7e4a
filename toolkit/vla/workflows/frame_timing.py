"""Frame times and video durations of imported features that lack them."""

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
"""Sampling of features with their own times."""
_VIDEO_COLUMNS = ("video", "video_id", "vid", "name", "video_name", "path", "file", "filename")
_DURATION_COLUMNS = ("duration", "duration_seconds", "length", "seconds")


@dataclass(frozen=True)
class Timing:
    """Timing rule for files without times: frame k is at `k * numerator / denominator` seconds.

    Attributes:
        numerator: 0 if there is no rule.
        denominator: positive.
        duration: default duration of videos in seconds; 0 if unknown.
        durations: durations of single videos by name; these take precedence.
    """

    numerator: float = 0.0
    denominator: float = 1.0
    duration: float = 0.0
    durations: Mapping[str, float] | None = None

    @property
    def step_seconds(self) -> float:
        """Seconds from one frame to the next; 0 without a rule."""
        return self.numerator / self.denominator

    @property
    def sampling(self) -> str:
        """Sampling of the frames, as in a feature spec."""
        return str(at_fps(self.denominator / self.numerator)) if self.numerator else ORIGINAL_TIMES

    def times_of(self, count: int) -> np.ndarray:
        """Return the times of frames, `(count,)` seconds; raises FormatError without a rule."""
        if not self.numerator:
            raise FormatError("it has no times", hint=Hint("name_sampling"))
        return np.arange(count) * self.numerator / self.denominator

    def duration_of(self, video_id: str) -> float:
        """Return the duration of a video in seconds; 0 if unknown."""
        durations = self.durations or {}
        file_name = PurePath(video_id).name
        return (
            durations.get(video_id)
            or durations.get(_strip_video_suffix(file_name))
            or self.duration
        )


def build_timing(
    *,
    fps: float | None,
    stride: int | None,
    video_fps: float | None,
    clip_length: float | None,
    duration: float | None,
    durations: Path | None,
) -> Timing:
    """Build a timing rule from the arguments of `vla.import_features`.

    Raises:
        UsageError: two rules, half of one, or invalid numbers.
        AnnotationError: the file of durations is invalid.
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
    positive_arguments = {
        "fps": fps,
        "stride": stride,
        "video_fps": video_fps,
        "clip_length": clip_length,
        "duration": duration,
    }
    for option, value in positive_arguments.items():
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
        raise UsageError(
            f"{denominator / numerator:g} features per second exceed the maximum of 240"
        )
    return Timing(
        numerator, denominator, duration or 0.0, read_durations(durations) if durations else None
    )


def read_durations(path: Path) -> dict[str, float]:
    """Read durations in seconds from a CSV, TSV, JSONL or JSON; keys are names, and unique file
    names without suffix.

    Raises:
        AnnotationError: the file cannot be read, lacks a column, or has two durations of one video.
    """
    problems = Problems()
    rows = read_rows(path, problems)
    columns = {c.casefold(): c for c in rows.columns}
    video_and_duration = [
        next((columns[n] for n in usual if n in columns), "")
        for usual in (_VIDEO_COLUMNS, _DURATION_COLUMNS)
    ]
    if not all(video_and_duration):
        raise AnnotationError(
            f"{path} needs the columns video and duration; it has "
            f"{', '.join(rows.columns) or 'none'}"
        )
    durations: dict[str, float] = {}
    lengths_of_file: dict[str, set[float]] = {}
    for row in rows.rows:
        try:
            name, length = (
                str(row.cells.get(video_and_duration[0])).strip(),
                seconds(row.cells.get(video_and_duration[1])),
            )
            if not (math.isfinite(length) and length > 0):
                raise AnnotationError(f"a duration must be above 0 s, not {length:g}")
            if durations.setdefault(name, length) != length:
                raise AnnotationError(
                    f"{name!r} has two durations: {durations[name]:g} s and {length:g} s"
                )
            lengths_of_file.setdefault(_strip_video_suffix(PurePath(name).name), set()).add(length)
        except AnnotationError as error:
            problems.add(row.line, str(error))
    problems.raise_if_any(path)
    # Files with the same name in two folders may be different videos: only the full name is
    # unambiguous.
    return {
        name: min(lengths) for name, lengths in lengths_of_file.items() if len(lengths) == 1
    } | durations


def _strip_video_suffix(name: str) -> str:
    path = PurePath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name
