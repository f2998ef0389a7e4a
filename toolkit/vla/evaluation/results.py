"""A figure with what it has to be read beside: its interval, the frozen encoder, what not looking scores, and tricks apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from vla.metrics.bootstrap import interval, median_interval
from vla.storage import records
from vla.storage.records import LATE, AnyFloat, Count

LOWER = ("MedR", "MnR", "MSE")
"""Measures of which less is better."""
DERIVED = "lower_is_better"
"""A key for other readers: it follows from the measure."""
TRICKS = {
    "+DSL": "dual softmax: looks at all queries of the test at once, which no search can",
    "+QB-Norm": "a bank of training captions tells which items are everybody's answer",
}
"""Columns of their own, with what they need that plain figures do not."""

Scores = dict[str, float]


@dataclass(frozen=True)
class PerQueryScores:
    """One measure, query by query.

    Attributes:
        by_query: `(Q,)` in the unit that is printed: percent, ranks, squares.
        videos: `(Q,)` the video of each: queries of one video succeed and fail together, so videos are drawn as a whole.
        median: the figure is the middle value, not the mean.
        digits: so many are printed by the official evaluator; None for all.
    """

    by_query: np.ndarray
    videos: np.ndarray
    median: bool = False
    digits: int | None = None

    def of(self, rows: np.ndarray) -> PerQueryScores:
        """The queries for which `rows` `(Q,)` bool holds."""
        return replace(self, by_query=self.by_query[rows], videos=self.videos[rows])

    @property
    def value(self) -> float:
        """The figure."""
        found = float(np.median(self.by_query) if self.median else np.mean(self.by_query))
        return found if self.digits is None else float(f"{found:.{self.digits}f}")

    def interval(self, seed: int) -> tuple[float, float]:
        """Ends of its 95 % bootstrap interval."""
        if self.median:
            return median_interval(self.by_query, seed=seed, clusters=self.videos)
        return interval(self.by_query, seed=seed, clusters=self.videos)

    def gain_over(self, others: PerQueryScores, seed: int) -> tuple[float, float] | None:
        """Ends of the 95 % interval of the difference, each query compared with itself; None of medians and of other queries."""
        if self.median or self.by_query.shape != others.by_query.shape:
            return None
        return interval(self.by_query - others.by_query, seed=seed, clusters=self.videos)


ScoreTable = dict[str, PerQueryScores]


@dataclass(frozen=True)
class BaselineScores:
    """What not looking scores in one task, by the name of what does not look, then by measure.

    Attributes:
        values: e.g. `{"whole video": {"R1@0.5": 12.3}}`.
        missing: why a floor that there might be is not among them; empty where none is missing.
    """

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: str = ""


def without_derived(record: Any) -> Any:
    """What `MetricResult.to_json` gave, without what follows from the rest."""
    return {k: v for k, v in record.items() if k != DERIVED} if isinstance(record, dict) else record


@dataclass(frozen=True)
class MetricResult:
    """One number of the report.

    Attributes:
        task: what was asked, e.g. `text to video`.
        measure: how it was counted, e.g. `R@1`.
        value: percent, a rank or a squared error.
        low: end of its 95 % bootstrap interval over videos with all their queries.
        high: other end.
        queries: how many.
        videos: of how many videos they are.
        frozen: what the frozen encoder scores; None where the figure is the frozen encoder's, or it has no answer.
        floors: what not looking scores, by the name of what does not look.
        no_floor: why there is no floor, or not every one; empty where none is missing.
        blind: what a head scores that learned from the words alone; None where the task has no such twin.
        tricks: by the names of `TRICKS`.
        gain: ends of the 95 % interval of `value` less `frozen`, by a bootstrap that compares each query with itself; None where
            there is nothing to compare with, and of medians.
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
    def gained(self) -> int:
        """1 where the figure is better than the frozen encoder's beyond chance, -1 where it is worse, else 0."""
        if self.gain is None or self.gain[0] <= 0 <= self.gain[1]:
            return 0
        return 1 if (self.gain[0] > 0) != self.lower_is_better else -1

    @property
    def lower_is_better(self) -> bool:
        """True of ranks and errors."""
        return self.measure in LOWER

    @property
    def floor(self) -> tuple[str, float] | None:
        """The name and value of the best floor; None where there is none."""
        if not self.floors:
            return None
        name = (min if self.lower_is_better else max)(self.floors, key=lambda k: self.floors[k])
        return name, self.floors[name]

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields, and whether less is better."""
        return {**vars(self), DERIVED: self.lower_is_better}

    @classmethod
    def from_json(cls, record: Any) -> MetricResult:
        """The figure that `to_json` wrote; raises CacheError where it is none."""
        return records.decode(cls, without_derived(record), "a figure")


def figures(
    task: str,
    ours: ScoreTable,
    frozen: ScoreTable | None,
    floors: BaselineScores,
    blind: Mapping[str, float],
    tricks: Mapping[str, Mapping[str, float]],
    seed: int,
) -> list[MetricResult]:
    """A figure for every measure of `ours`, each with what stands beside it."""

    def figure(measure: str, values: PerQueryScores) -> MetricResult:
        before = frozen[measure] if frozen and measure in frozen else None
        low, high = values.interval(seed)
        below = {name: float(of[measure]) for name, of in floors.values.items() if measure in of}
        return MetricResult(
            task=task,
            measure=measure,
            value=values.value,
            low=low,
            high=high,
            queries=len(values.by_query),
            videos=len(np.unique(values.videos)),
            frozen=None if before is None else before.value,
            floors=below,
            no_floor=floors.missing or ("" if below else "nothing to compare with"),
            blind=blind.get(measure),
            tricks={name: of[measure] for name, of in tricks.items() if measure in of},
            gain=None if before is None else values.gain_over(before, seed),
        )

    return [figure(measure, values) for measure, values in ours.items()]
