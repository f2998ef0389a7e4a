"""Verdict on a run: paired comparison with the frozen encoder over held-out videos."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from vla.evaluation.results import PerQueryScores

MIN_VIDEOS = 10
"""Minimum number of held-out videos for a reliable interval."""
CONFIDENCE = 0.99
"""Not 0.95: the epoch and alpha are selected on the same videos, which biases the gain upwards."""


_SEARCH_SCORE = "search score"


@dataclass(frozen=True)
class Gain:
    """A gain over the frozen encoder in percentage points, with its interval at `CONFIDENCE`."""

    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.gain:+.1f} points, {CONFIDENCE:.0%} CI {self.low:.1f} to {self.high:.1f}"


@dataclass(frozen=True)
class Verdict:
    """Comparison of a run with the frozen encoder on the same held-out videos.

    Attributes:
        videos: number of held-out videos with queries of the tasks in `score`.
        score: gain of the search score, the mean over the tasks with queries of at least
            `MIN_VIDEOS` videos; over all tasks if there is none.
        tasks: gain of each task: mean reciprocal ranks for retrieval, mean IoU for moments. With
            fewer videos its interval is unknown, from -100 to 100.
    """

    videos: int
    score: Gain
    tasks: Mapping[str, Gain]

    @property
    def is_better(self) -> bool:
        """Return whether the run is better.

        This needs enough videos, a positive gain of the search score, an interval above 0, and none
        below 0.
        """
        has_gain = any(gain.low > 0 for gain in (self.score, *self.tasks.values()))
        return self.videos >= MIN_VIDEOS and self.score.gain > 0 and has_gain and not self.is_worse

    @property
    def is_worse(self) -> bool:
        """Return whether the interval of the score or of a task is below 0."""
        return any(gain.high < 0 for gain in (self.score, *self.tasks.values()))

    @property
    def detectable_gain(self) -> float:
        """Return the smallest gain in points that so few videos can show.

        It is at least the contribution of one video.
        """
        return max((self.score.high - self.score.low) / 2, 100 / max(1, self.videos))

    @property
    def decisive_gain(self) -> str:
        """Return the first significant gain, or the gain of the search score."""
        gains = {_SEARCH_SCORE: self.score, **self.tasks}
        significant = [
            k for k, gain in gains.items() if (gain.high < 0 if self.is_worse else gain.low > 0)
        ]
        name = significant[0] if significant else _SEARCH_SCORE
        return f"{name} {gains[name]}"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "confidence": CONFIDENCE}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Verdict | None:
        """Return the verdict in a run's record; None if missing (older versions) or damaged."""
        return cls.from_json(record.get("verdict"))

    @classmethod
    def from_json(cls, fields: Any) -> Verdict | None:
        """Return the verdict of `to_json`; None if damaged."""
        try:
            tasks = {str(name): _parse_gain(gain) for name, gain in fields["tasks"].items()}
            return cls(int(fields["videos"]), _parse_gain(fields["score"]), tasks)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            return None


def compare(
    ours: Mapping[str, PerQueryScores], frozen: Mapping[str, PerQueryScores]
) -> Verdict | None:
    """Compare two models by task with paired queries; None without queries.

    The interval is Student's t with the jackknife's standard error, where each video is left out in
    turn with all its queries. With one query for each video, it is that of the paired t test. A
    percentile bootstrap is too narrow with few videos.
    """
    num_videos = {k: len(set(of_task.videos.tolist())) for k, of_task in ours.items()}
    large = {k: of_task for k, of_task in ours.items() if num_videos[k] >= MIN_VIDEOS}
    gains = _jackknife(large or ours, frozen)
    if not gains:
        return None
    mean, others = _mean(gains)
    tasks = {}
    for task, of_task in ours.items():
        if len(of_task.by_query):
            gain, of_videos = _jackknife({task: of_task}, frozen)[task]
            # A few equal gains, or a single one, would have an interval of no length.
            tasks[task] = (
                _interval(gain, of_videos) if task in large else Gain(100 * gain, -100.0, 100.0)
            )
    return Verdict(len(others), _interval(mean, others), tasks)


def standard_error(
    ours: Mapping[str, PerQueryScores], others: Mapping[str, PerQueryScores]
) -> float:
    """Return the standard error of the mean gain over the tasks, by the jackknife of `compare`;
    infinite with fewer than two videos.
    """
    import numpy as np

    gains = _jackknife(ours, others)
    jackknife = _mean(gains)[1] if gains else np.zeros(0)
    return _error(jackknife) if len(jackknife) > 1 else math.inf


def _mean(gains: Mapping[str, tuple[float, np.ndarray]]) -> tuple[float, np.ndarray]:
    """Return the mean over the tasks of gains and of their jackknife values."""
    import numpy as np

    return (
        float(np.mean([gain for gain, _ in gains.values()])),
        np.mean([others for _, others in gains.values()], axis=0),
    )


def _jackknife(
    ours: Mapping[str, PerQueryScores], frozen: Mapping[str, PerQueryScores]
) -> dict[str, tuple[float, np.ndarray]]:
    """Return, by task, the mean gain and its values `(V,)` without each of the videos of all tasks."""
    import numpy as np

    pairs = {
        k: (a.by_query - frozen[k].by_query, a.videos) for k, a in ours.items() if len(a.by_query)
    }
    if not pairs:
        return {}
    videos = np.unique(np.concatenate([query_videos for _, query_videos in pairs.values()]))
    gains = {}
    for task, (values, query_videos) in pairs.items():
        rows = np.searchsorted(videos, query_videos)
        sums = np.bincount(rows, weights=values, minlength=len(videos))
        num_others = len(values) - np.bincount(rows, minlength=len(videos))
        mean = float(values.mean())
        # A task with queries of one video only has no value without it.
        others = np.where(num_others > 0, (sums.sum() - sums) / np.maximum(num_others, 1), mean)
        gains[task] = (mean, others)
    return gains


def is_better(record: Mapping[str, Any]) -> bool:
    """Return whether the run of this record is better and is used by default."""
    verdict = Verdict.from_record(record)
    return (
        record.get("better") is True
        and verdict is not None
        and verdict.is_better
        and _differs(record)
    )


def sentence(record: Mapping[str, Any]) -> str:
    """Describe the comparison of a run with the frozen encoder, without a full stop."""
    verdict, better = Verdict.from_record(record), record.get("better") is True
    after = record.get("after")
    if isinstance(after, Mapping) and after.get("search", after.get("score")) is None:
        return "not compared: there were questions only, no captions"
    if not _differs(record):
        return "no gain over the frozen encoder: alpha is 0, so vectors are those of the frozen encoder"
    if verdict is None:
        if better:
            return "better than the frozen encoder according to an earlier version, without a confidence interval"
        return "not better than the frozen encoder on the held-out videos"
    videos = "1 held-out video" if verdict.videos == 1 else f"{verdict.videos} held-out videos"
    limit = f"differences below ±{verdict.detectable_gain:.1f} points are not measurable"
    if verdict.videos < MIN_VIDEOS:
        return f"too few videos: {videos}, at least {MIN_VIDEOS} are needed; {limit}"
    if verdict.is_worse:
        return f"worse than the frozen encoder on {videos} ({verdict.decisive_gain})"
    if verdict.is_better and not better:
        return f"worse than the frozen encoder on held-out concepts, although better on {videos}"
    if verdict.is_better:
        alone = (
            ""
            if _number(record, "alpha") > 0
            else ", by centering alone: alpha is 0, so no trained weights are used"
        )
        return f"better than the frozen encoder on {videos} ({verdict.decisive_gain}){alone}"
    return f"no measurable difference from the frozen encoder on {videos} ({_SEARCH_SCORE} {verdict.score}); {limit}"


def head_sentences(record: Mapping[str, Any]) -> dict[str, str]:
    """Describe, by task, the comparison of each head with the untrained head on the frozen encoder,
    without a full stop.
    """
    fields = record.get("heads")
    verdicts = {
        str(task): Verdict.from_json(verdict)
        for task, verdict in (fields.items() if isinstance(fields, Mapping) else ())
    }
    return {
        task: _head_sentence(verdict) for task, verdict in verdicts.items() if verdict is not None
    }


def _head_sentence(verdict: Verdict) -> str:
    videos = "1 held-out video" if verdict.videos == 1 else f"{verdict.videos} held-out videos"
    if verdict.videos < MIN_VIDEOS:
        return f"too few videos: {videos}, at least {MIN_VIDEOS} are needed"
    if verdict.is_better:
        return f"better than the untrained head on {videos} ({verdict.score})"
    if verdict.is_worse:
        return f"worse than the untrained head on {videos} ({verdict.score})"
    return (
        f"no measurable difference from the untrained head on {videos} ({verdict.score}); "
        f"differences below ±{verdict.detectable_gain:.1f} points are not measurable"
    )


def _differs(record: Mapping[str, Any]) -> bool:
    """Return whether a run differs from the frozen encoder: False if alpha and centering are 0."""
    return _number(record, "alpha") > 0 or _number(record, "centring") > 0


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _students_t(freedom: int) -> float:
    """Return the quantile of Student's t for an interval at `CONFIDENCE`.

    By Abramowitz and Stegun 26.7.5; within 2 % from 5 degrees of freedom.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def _interval(gain: float, jackknife: np.ndarray) -> Gain:
    """Return `gain` in points, with the interval of its jackknife values `(V,)`."""
    num_videos = len(jackknife)
    if num_videos < 2:
        return Gain(100 * float(gain), -100.0, 100.0)
    half = _students_t(num_videos - 1) * _error(jackknife)
    return Gain(*(100 * float(x) for x in (gain, gain - half, gain + half)))


def _error(jackknife: np.ndarray) -> float:
    count = len(jackknife)
    return math.sqrt((count - 1) / count * float(((jackknife - jackknife.mean()) ** 2).sum()))


def _parse_gain(record: Mapping[str, Any]) -> Gain:
    gain = Gain(*(float(record[name]) for name in ("gain", "low", "high")))
    if not all(map(math.isfinite, (gain.gain, gain.low, gain.high))):
        raise ValueError("gain is not finite")
    return gain
