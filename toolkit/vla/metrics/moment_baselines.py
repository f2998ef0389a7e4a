"""Vision-blind moment baselines: the whole video, a grid of windows, and the best constant window.

Their scores are high: on ActivityNet Captions the whole video has a mIoU of 34.6, and on
Charades-STA the first 30 % of the video have an R1@0.5 of 30.7. All functions return
predictions for `vla.evaluation.moment_protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import ShapeError, UsageError
from vla.metrics.moments import check_pairs, pad_spans

RelativeSpan = tuple[float, float]
"""Start and end of a window as fractions of the video's duration."""


@dataclass(frozen=True)
class ConstantWindow:
    """A window at the same relative position in every video.

    Attributes:
        part: window of any query.
        by_position: window of queries at one position among those of their video, instead of
            `part`. Where captions follow the order of events (ActivityNet Captions), the position
            determines most of the time.
    """

    part: RelativeSpan
    by_position: Mapping[int, RelativeSpan]

    def predict(self, durations: ArrayLike, positions: ArrayLike | None = None) -> list[np.ndarray]:
        """Return, for each query, one window `(1, 3)`: start, end (seconds) and score 1.

        Args:
            durations: `(Q,)` seconds, of each query's video.
            positions: `(Q,)` int; None to ignore them.

        Raises:
            ShapeError: not one duration, or position, for each query.
            UsageError: a duration that is not positive.
        """
        seconds = _validate_durations(durations)
        parts = np.tile(self.part, (len(seconds), 1))
        for position, members in _members(positions, len(seconds)).items():
            parts[members] = self.by_position.get(position, self.part)
        return [np.array([[*span, 1.0]]) for span in parts * seconds[:, None]]


def fit_constant_window(
    truths: Sequence[np.ndarray],
    durations: ArrayLike,
    positions: ArrayLike | None = None,
    threshold: float = 0.5,
    steps: int = 20,
) -> ConstantWindow:
    """Fit the window with the best R1 at an IoU of `threshold`, on queries of the training set.

    All windows with ends on a grid of `1 / steps` of the duration are tried. Among equally good
    windows, the one that starts first is taken, and of these the shortest. With positions, one more
    window is fitted to the queries at each position.

    Args:
        truths: for each query `(M, 2)` seconds, M at least 1.
        durations: `(Q,)` seconds, of each query's video.
        positions: `(Q,)` int, position of each query among those of its video, from 0.
        threshold: in (0, 1].
        steps: number of grid steps.

    Raises:
        ShapeError: not one duration, or position, for each query.
        UsageError: no queries, a query without a true span, a duration that is not positive, or an
            option out of range.
    """
    seconds = _validate_durations(durations)
    check_pairs(list(seconds), truths)
    if not 0 < threshold <= 1 or steps < 1:
        raise UsageError(
            f"invalid IoU threshold {threshold} or steps {steps}: "
            "the threshold must lie in (0, 1], and steps must be at least 1"
        )
    pad_spans(truths)  # for its validation
    counts = np.array([len(spans) for spans in truths])
    relative_spans = (
        np.concatenate([np.asarray(spans, dtype=np.float64) for spans in truths])
        / np.repeat(seconds, counts)[:, None]
    )
    first = counts.cumsum() - counts
    ends = np.arange(steps + 1) / steps
    parts = np.array([(start, end) for start in ends for end in ends if start < end])
    is_correct = np.stack(
        [np.logical_or.reduceat(_iou(part, relative_spans) >= threshold, first) for part in parts]
    )
    groups = _members(positions, len(seconds))
    best = {
        position: int(is_correct[:, members].mean(axis=1).argmax())
        for position, members in groups.items()
    }
    overall = int(is_correct.mean(axis=1).argmax())
    return ConstantWindow(
        _part(parts[overall]), {position: _part(parts[row]) for position, row in best.items()}
    )


def whole_video(durations: ArrayLike) -> list[np.ndarray]:
    """Return the whole video `(1, 3)` for each query.

    Arguments and errors as in `ConstantWindow.predict`.
    """
    return window_grid(durations, (1,))


def window_grid(durations: ArrayLike, divisions: Sequence[int] = (1, 2, 3, 4)) -> list[np.ndarray]:
    """Return, for each query, the whole video, then its halves, thirds and quarters.

    Ten windows of this kind cover many moments.

    Args:
        durations: `(Q,)` seconds, of each query's video.
        divisions: numbers of equal, consecutive windows that the video is divided into.

    Returns:
        For each query `(N, 3)`: start, end (seconds) and a falling score.

    Raises:
        ShapeError: durations are not one-dimensional.
        UsageError: a duration that is not positive, or a number of windows that is not.
    """
    if not len(divisions) or min(divisions) < 1:
        raise UsageError(f"invalid numbers of windows {list(divisions)}: each must be at least 1")
    parts = np.array([(k / n, (k + 1) / n) for n in divisions for k in range(n)])
    scores = -np.arange(len(parts), dtype=np.float64)
    return [
        np.column_stack([parts * seconds, scores]) for seconds in _validate_durations(durations)
    ]


def _iou(part: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return `(N,)` IoU of a window with each of the spans `(N, 2)`."""
    intersection = np.maximum(0, np.minimum(true[:, 1], part[1]) - np.maximum(true[:, 0], part[0]))
    return intersection / (np.maximum(true[:, 1], part[1]) - np.minimum(true[:, 0], part[0]))


def _part(bounds: np.ndarray) -> RelativeSpan:
    return float(bounds[0]), float(bounds[1])


def _validate_durations(durations: ArrayLike) -> np.ndarray:
    seconds = np.asarray(durations, dtype=np.float64)
    if seconds.ndim != 1:
        raise ShapeError(
            f"expected one duration for each query, got an array of shape {seconds.shape}"
        )
    invalid = seconds[~((seconds > 0) & np.isfinite(seconds))]
    if len(invalid):
        raise UsageError(f"invalid duration {invalid[0]}: it must be a positive number of seconds")
    return seconds


def _members(positions: ArrayLike | None, num_queries: int) -> dict[int, np.ndarray]:
    """Return `(Q,)` bool by position: the queries at that position."""
    if positions is None:
        return {}
    position_of = np.asarray(positions)
    if position_of.shape != (num_queries,):
        raise ShapeError(
            f"expected one position for each of {num_queries} queries, got shape "
            f"{position_of.shape}"
        )
    return {int(position): position_of == position for position in np.unique(position_of)}
