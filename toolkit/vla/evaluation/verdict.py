"""Is a run better than the frozen encoder? A paired interval over held-out videos, and a sentence for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from vla.evaluation.results import PerQueryScores

MIN_VIDEOS = 10
"""Of fewer held-out videos no interval is to be trusted."""
CONFIDENCE = 0.99
"""Not 0.95: the epoch and alpha are chosen on the same videos, so that the best of them looks better than it is."""


_WHOLE = "search score"


@dataclass(frozen=True)
class Gain:
    """A difference from the frozen encoder in points of 100, with the ends of its interval at `CONFIDENCE`."""

    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.gain:+.1f} points, {CONFIDENCE:.0%} CI {self.low:.1f} to {self.high:.1f}"


@dataclass(frozen=True)
class Verdict:
    """A run compared with the frozen encoder on the same held-out videos.

    Attributes:
        videos: held-out videos with captions.
        score: gain of the search score, the mean over the tasks.
        tasks: gain of each task: mean reciprocal ranks of retrieval, mean IoU of moments.
    """

    videos: int
    score: Gain
    tasks: Mapping[str, Gain]

    @property
    def is_better(self) -> bool:
        """True if the run wins plainly: enough videos, a task with its whole interval above 0, none below, and a better score."""
        plainly = any(gain.low > 0 for gain in (self.score, *self.tasks.values()))
        return self.videos >= MIN_VIDEOS and self.score.gain > 0 and plainly and not self.is_worse

    @property
    def is_worse(self) -> bool:
        """True if the score or a task is plainly worse."""
        return any(gain.high < 0 for gain in (self.score, *self.tasks.values()))

    @property
    def visible(self) -> float:
        """Points: a smaller difference cannot be seen with so few videos. Never less than what one video counts."""
        return max((self.score.high - self.score.low) / 2, 100 / max(1, self.videos))

    @property
    def shown(self) -> str:
        """The figure that decides: of the score where that is plain, else of the plainest task; the score where none is."""
        gains = {_WHOLE: self.score, **self.tasks}
        plain = [k for k, gain in gains.items() if (gain.high < 0 if self.is_worse else gain.low > 0)]
        name = plain[0] if plain else _WHOLE
        return f"{name} {gains[name]}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "confidence": CONFIDENCE}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Verdict | None:
        """The verdict in a run's record; None where an earlier version wrote none, or where it is damaged."""
        try:
            found = record["verdict"]
            tasks = {str(name): _gain(gain) for name, gain in found["tasks"].items()}
            return cls(int(found["videos"]), _gain(found["score"]), tasks)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            return None


def compare(ours: Mapping[str, PerQueryScores], frozen: Mapping[str, PerQueryScores]) -> Verdict | None:
    """Compare two models task by task, each query with itself; None where there are no queries.

    The interval is Student's with the jackknife's standard error, each video left out in turn with all its queries. Where every
    video has one query it is that of the paired t test. A percentile bootstrap is too narrow where there are few videos.
    """
    pairs = {k: (a.by_query - frozen[k].by_query, a.videos) for k, a in ours.items() if len(a.by_query)}
    if not pairs:
        return None
    videos = np.unique(np.concatenate([owner for _, owner in pairs.values()]))
    gains, without = [], []
    for values, owner in pairs.values():
        rows = np.searchsorted(videos, owner)
        sums = np.bincount(rows, weights=values, minlength=len(videos))
        left = len(values) - np.bincount(rows, minlength=len(videos))
        gains.append(values.mean())
        # A task that one video alone has says nothing without it.
        without.append(np.where(left > 0, (sums.sum() - sums) / np.maximum(left, 1), gains[-1]))
    tasks = {k: _interval(gain, others) for k, gain, others in zip(pairs, gains, without, strict=True)}
    return Verdict(len(videos), _interval(np.mean(gains), np.mean(without, axis=0)), tasks)


def is_better(record: Mapping[str, Any]) -> bool:
    """True if a run with this record wins plainly and may be used without being asked for."""
    verdict = Verdict.of(record)
    return record.get("better") is True and verdict is not None and verdict.is_better and _differs(record)


def sentence(record: Mapping[str, Any]) -> str:
    """How the run of `record` compares with the frozen encoder, for a person; it has no full stop."""
    verdict, better = Verdict.of(record), record.get("better") is True
    after = record.get("after")
    if isinstance(after, Mapping) and after.get("search", after.get("score")) is None:
        return "not compared: there were questions only, no captions"
    if not _differs(record):
        return "no gain over the frozen encoder: alpha is 0, so no trained weights are used"
    if verdict is None:
        if better:
            return "better than the frozen encoder according to an earlier version, without a confidence interval"
        return "not better than the frozen encoder on the held-out videos"
    videos = "1 held-out video" if verdict.videos == 1 else f"{verdict.videos} held-out videos"
    limit = f"differences below ±{verdict.visible:.1f} points are not measurable"
    if verdict.videos < MIN_VIDEOS:
        return f"too few videos: {videos}, at least {MIN_VIDEOS} are needed; {limit}"
    if verdict.is_worse:
        return f"worse than the frozen encoder on {videos} ({verdict.shown})"
    if verdict.is_better and not better:
        return f"worse than the frozen encoder on held-out concepts, although better on {videos}"
    if verdict.is_better:
        alone = (
            "" if _number(record, "alpha") > 0 else ", by centering alone: alpha is 0, so no trained weights are used"
        )
        return f"better than the frozen encoder on {videos} ({verdict.shown}){alone}"
    return f"no measurable difference from the frozen encoder on {videos} ({_WHOLE} {verdict.score}); {limit}"


def _differs(record: Mapping[str, Any]) -> bool:
    """False where alpha and centring are 0: then a run is the frozen encoder itself."""
    return _number(record, "alpha") > 0 or _number(record, "centring") > 0


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _students_t(freedom: int) -> float:
    """The quantile for an interval at `CONFIDENCE`, by Abramowitz and Stegun 26.7.5; within 2 % from 5 degrees of freedom."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def _interval(gain: float, others: np.ndarray) -> Gain:
    """Points of `gain`, of which `others` `(V,)` is what each video leaves when it is left out."""
    count = len(others)
    if count < 2:
        return Gain(100 * float(gain), -100.0, 100.0)
    error = math.sqrt((count - 1) / count * float(((others - others.mean()) ** 2).sum()))
    half = _students_t(count - 1) * error
    return Gain(*(100 * float(x) for x in (gain, gain - half, gain + half)))


def _gain(record: Mapping[str, Any]) -> Gain:
    found = Gain(*(float(record[name]) for name in ("gain", "low", "high")))
    if not all(map(math.isfinite, (found.gain, found.low, found.high))):
        raise ValueError("a gain is finite")
    return found
