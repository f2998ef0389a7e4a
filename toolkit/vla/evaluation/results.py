"""Results of an evaluation: each metric with its interval, frozen score and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from vla.metrics.bootstrap import estimate
from vla.storage import records
from vla.storage.records import LATE, AnyFloat, Count

LOWER = ("MedR", "MnR", "MSE")
"""Measures where lower is better."""
LOWER_IS_BETTER_KEY = "lower_is_better"
"""JSON key for other readers; computed from the measure."""
TRICKS = {
    "+DSL": "dual softmax: uses all queries of the test at once, which no search can do",
    "+QB-Norm": "subtracts hubness, estimated from a query bank of training captions",
}
"""Inference tricks, reported in separate columns, with their requirements."""

Scores = dict[str, float]


@dataclass(frozen=True)
class PerQueryScores:
    """Scores of one measure for each query.

    Attributes:
        by_query: `(Q,)` in the printed unit: percent, ranks, squares.
        videos: `(Q,)` the video of each query. Queries of one video are correlated, and videos are
            resampled as clusters.
        median: the metric is the median, not the mean.
        digits: number of digits that the official evaluator prints; None for all.
    """

    by_query: np.ndarray
    videos: np.ndarray
    median: bool = False
    digits: int | None = None

    def select(self, rows: np.ndarray) -> PerQueryScores:
        """Return the scores of the queries where `rows` `(Q,)` bool is True."""
        return replace(self, by_query=self.by_query[rows], videos=self.videos[rows])

    @property
    def value(self) -> float:
        """Return the metric: the mean, or the median, over queries."""
        value = float(np.median(self.by_query) if self.median else np.mean(self.by_query))
        return value if self.digits is None else float(f"{value:.{self.digits}f}")

    def interval(self, seed: int) -> tuple[float, float]:
        """Return the ends of the 95 % bootstrap interval."""
        return estimate(self.by_query, seed=seed, clusters=self.videos, median=self.median).interval

    def gain_over(self, others: PerQueryScores, seed: int) -> tuple[float, float] | None:
        """Return the ends of the 95 % interval of the paired difference.

        None for medians, for other queries, and for queries of a single video, of which no interval
        can be estimated.
        """
        if self.median or self.by_query.shape != others.by_query.shape:
            return None
        if len(np.unique(self.videos)) < 2:
            return None
        gains = self.by_query - others.by_query
        return estimate(gains, seed=seed, clusters=self.videos).interval


ScoreTable = dict[str, PerQueryScores]


@dataclass(frozen=True)
class BaselineScores:
    """Scores of vision-blind baselines in one task, by baseline, then by measure.

    Attributes:
        values: e.g. `{"whole video": {"R1@0.5": 12.3}}`.
        missing: reason why a baseline is missing; empty if none is.
    """

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: str = ""


def drop_computed_keys(record: Any) -> Any:
    """Remove the keys from a record of `MetricResult.to_json` that are no fields."""
    return (
        {k: v for k, v in record.items() if k != LOWER_IS_BETTER_KEY}
        if isinstance(record, dict)
        else record
    )


@dataclass(frozen=True)
class MetricResult:
    """One metric of a report.

    Attributes:
        task: e.g. `text to video`.
        measure: e.g. `R@1`.
        value: percent, a rank or a squared error.
        low: lower end of its 95 % bootstrap interval over videos with all their queries.
        high: upper end.
        queries: number of queries.
        videos: number of their videos.
        frozen: score of the frozen encoder; None if `value` is that score, or it has no answer.
        floors: scores of the vision-blind baselines, by name.
        no_floor: reason why a baseline is missing; empty if none is.
        blind: score of the head's blind model, trained on text alone; None without one.
        tricks: scores with inference tricks, by the names of `TRICKS`.
        gain: ends of the 95 % interval of `value` less `frozen`, by a paired bootstrap; None
            without a frozen score, and for medians.
    """

    task: str
    measure: str
    value: AnyFloat
    low: AnyFloat
    high: AnyFloat
    queries: Count
    videos: Count
    frozen: AnyFloat | None = None
    floors: dict[str, AnyFloat] = field(default_factory=dict)
    no_floor: str = ""
    blind: AnyFloat | None = None
    tricks: dict[str, AnyFloat] = field(default_factory=dict)
    gain: Annotated[tuple[AnyFloat, AnyFloat] | None, LATE] = None

    @property
    def gain_sign(self) -> int:
        """Return 1 if better than the frozen encoder beyond chance, -1 if worse, else 0."""
        if self.gain is None or self.gain[0] <= 0 <= self.gain[1]:
            return 0
        return 1 if (self.gain[0] > 0) != self.lower_is_better else -1

    @property
    def lower_is_better(self) -> bool:
        """Return True for ranks and errors."""
        return self.measure in LOWER

    @property
    def best_baseline(self) -> tuple[str, float] | None:
        """Return name and value of the best baseline; None without any."""
        if not self.floors:
            return None
        name = (min if self.lower_is_better else max)(self.floors, key=lambda k: self.floors[k])
        return name, self.floors[name]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object of all fields, and whether lower is better."""
        return {**vars(self), LOWER_IS_BETTER_KEY: self.lower_is_better}

    @classmethod
    def from_json(cls, record: Any) -> MetricResult:
        """Read the result that `to_json` wrote; raises CacheError if it is malformed."""
        return records.decode(cls, drop_computed_keys(record), "a figure")


def metric_results(
    task: str,
    ours: ScoreTable,
    frozen: ScoreTable | None,
    baselines: BaselineScores,
    blind: Mapping[str, float],
    tricks: Mapping[str, Mapping[str, float]],
    seed: int,
) -> list[MetricResult]:
    """Build a result for each measure of `ours`, with its interval and baselines."""

    def metric_result(measure: str, values: PerQueryScores) -> MetricResult:
        frozen_scores = frozen[measure] if frozen and measure in frozen else None
        low, high = values.interval(seed)
        baseline_values = {
            name: float(scores[measure])
            for name, scores in baselines.values.items()
            if measure in scores
        }
        return MetricResult(
            task=task,
            measure=measure,
            value=values.value,
            low=low,
            high=high,
            queries=len(values.by_query),
            videos=len(np.unique(values.videos)),
            frozen=None if frozen_scores is None else frozen_scores.value,
            floors=baseline_values,
            no_floor=baselines.missing or ("" if baseline_values else "nothing to compare with"),
            blind=blind.get(measure),
            tricks={name: scores[measure] for name, scores in tricks.items() if measure in scores},
            gain=None if frozen_scores is None else values.gain_over(frozen_scores, seed),
        )

    return [metric_result(measure, values) for measure, values in ours.items()]
