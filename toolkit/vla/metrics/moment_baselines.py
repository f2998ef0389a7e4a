"""Moments that nobody looked for: the whole video, a grid, and the constant window that fits the training set best.

They score more than one expects: on ActivityNet Captions the whole video has a mIoU of 34.6, on Charades-STA the first 30 %
of the video an R1@0.5 of 30.7. Every function gives predictions for `locating.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.metrics.moments import check_pairs, padded

RelativeSpan = tuple[float, float]
"""Start and end of a window as parts of the video's duration."""


@dataclass(frozen=True)
class ConstantWindow:
    """The same part of every video.

    Attributes:
        part: for any query.
        by_position: for the queries at some place among those of their video, instead of `part`. Where captions are told
            in the order of events (ActivityNet Captions), their place tells most of their time.
    """

    part: RelativeSpan
    by_position: Mapping[int, RelativeSpan]

    def predict(self, durations: ArrayLike, positions: ArrayLike | None = None) -> list[np.ndarray]:
        """For every query `(1, 3)`: start, end (seconds) and score 1.

        Args:
            durations: `(Q,)` seconds, of each query's video.
            positions: `(Q,)` int; None to take no notice of them.

        Raises:
            ShapeError: not one duration, or position, for each query.
            UsageError: a duration that is not positive.
        """
        seconds = _checked_durations(durations)
        parts = np.tile(self.part, (len(seconds), 1))
        for place, members in _members(positions, len(seconds)).items():
            parts[members] = self.by_position.get(place, self.part)
        return [np.array([[*span, 1.0]]) for span in parts * seconds[:, None]]


def fit_constant_window(
    truths: Sequence[np.ndarray],
    durations: ArrayLike,
    positions: ArrayLike | None = None,
    threshold: float = 0.5,
    steps: int = 20,
) -> ConstantWindow:
    """The window with the best R1 at an IoU of `threshold` on these queries: give those of the training set.

    All windows whose ends are on a grid of `1 / steps` of the duration are tried; of equally good ones the first that
    starts, then the shortest, is taken. With positions one more window is fitted to the queries at each place.

    Args:
        truths: for every query `(M, 2)` seconds, M at least 1.
        durations: `(Q,)` seconds, of each query's video.
        positions: `(Q,)` int, the place of each query among those of its video, 0 the first.
        threshold: in (0, 1].
        steps: of the grid.

    Raises:
        ShapeError: not one duration, or position, for each query.
        UsageError: no queries, one without a true span, a duration that is not positive, or an option out of range.
    """
    seconds = _checked_durations(durations)
    check_pairs(list(seconds), truths)
    if not 0 < threshold <= 1 or steps < 1:
        raise UsageError(f"the IoU threshold {threshold} must lie in (0, 1] and steps {steps} be at least 1")
    padded(truths)  # refuses what is not rows of start and end
    counts = np.array([len(spans) for spans in truths])
    true = (
        np.concatenate([np.asarray(spans, dtype=np.float64) for spans in truths]) / np.repeat(seconds, counts)[:, None]
    )
    first = counts.cumsum() - counts
    ends = np.arange(steps + 1) / steps
    parts = np.array([(start, end) for start in ends for end in ends if start < end])
    reached = np.stack([np.logical_or.reduceat(_iou(part, true) >= threshold, first) for part in parts])
    groups = _members(positions, len(seconds))
    best = {place: int(reached[:, members].mean(axis=1).argmax()) for place, members in groups.items()}
    overall = int(reached.mean(axis=1).argmax())
    return ConstantWindow(_part(parts[overall]), {place: _part(parts[number]) for place, number in best.items()})


def whole_video(durations: ArrayLike) -> list[np.ndarray]:
    """For every query `(1, 3)`: all of its video. Arguments and errors as `ConstantWindow.predict`."""
    return window_grid(durations, (1,))


def window_grid(durations: ArrayLike, ways: Sequence[int] = (1, 2, 3, 4)) -> list[np.ndarray]:
    """For every query the whole video, then its halves, thirds and quarters: with ten windows something is found.

    Args:
        durations: `(Q,)` seconds, of each query's video.
        ways: into how many equal windows the video is cut, one after the other.

    Returns:
        For every query `(N, 3)`: start, end (seconds) and a falling score.

    Raises:
        ShapeError: durations are not one row.
        UsageError: a duration that is not positive, or a number of windows that is not.
    """
    if not len(ways) or min(ways) < 1:
        raise UsageError(f"a video is cut into 1 or more windows, not into {list(ways)}")
    parts = np.array([(k / n, (k + 1) / n) for n in ways for k in range(n)])
    scores = -np.arange(len(parts), dtype=np.float64)
    return [np.column_stack([parts * seconds, scores]) for seconds in _checked_durations(durations)]


def _iou(part: np.ndarray, true: np.ndarray) -> np.ndarray:
    """`(N,)` with each of the spans `(N, 2)`."""
    shared = np.maximum(0, np.minimum(true[:, 1], part[1]) - np.maximum(true[:, 0], part[0]))
    return shared / (np.maximum(true[:, 1], part[1]) - np.minimum(true[:, 0], part[0]))


def _part(bounds: np.ndarray) -> RelativeSpan:
    return float(bounds[0]), float(bounds[1])


def _checked_durations(durations: ArrayLike) -> np.ndarray:
    seconds = np.asarray(durations, dtype=np.float64)
    if seconds.ndim != 1:
        raise ShapeError(f"there is one duration for each query, not an array of shape {seconds.shape}")
    wrong = seconds[~((seconds > 0) & np.isfinite(seconds))]
    if len(wrong):
        raise UsageError(f"a duration is a positive number of seconds, not {wrong[0]}")
    return seconds


def _members(positions: ArrayLike | None, queries: int) -> dict[int, np.ndarray]:
    """By position: `(Q,)` bool, the queries there."""
    if positions is None:
        return {}
    places = np.asarray(positions)
    if places.shape != (queries,):
        raise ShapeError(f"{queries} queries need one position each, not positions of shape {places.shape}")
    return {int(place): places == place for place in np.unique(places)}
