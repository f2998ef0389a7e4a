"""Tables in Markdown of values of queries over several seeds, and paired differences with intervals
over videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla.metrics.bootstrap import estimate

NOTHING = "–"


@dataclass(frozen=True)
class Values:
    """Values of a measure for each query of one seed.

    Attributes:
        by_query: `(Q,)` percent.
        videos: `(Q,)` name of the video of each query; intervals resample whole videos.
    """

    by_query: np.ndarray
    videos: np.ndarray


Row = Mapping[str, Sequence[Values]]
"""By column the values of each seed."""


def row_of(measurements: Sequence[Mapping[str, Values]]) -> Row:
    """The row of a table from the measurements of each seed; a seed may lack a column."""
    columns = dict.fromkeys(column for one in measurements for column in one)
    return {column: [one[column] for one in measurements if column in one] for column in columns}


def mean_of(values: Sequence[Values]) -> float:
    """Mean over seeds of the mean over queries; NaN without a seed."""
    return float(np.mean([v.by_query.mean() for v in values])) if values else float("nan")


def mean_and_deviation(values: Sequence[Values]) -> str:
    """Mean and standard deviation over seeds; the mean alone if all seeds agree, as without training."""
    if not values:
        return NOTHING
    means = np.array([v.by_query.mean() for v in values])
    spread = f" ± {means.std(ddof=1):.1f}" if len(means) > 1 and np.ptp(means) > 1e-9 else ""
    return f"{means.mean():.1f}{spread}"


def difference(ours: Sequence[Values], others: Sequence[Values]) -> str:
    """Mean of the paired differences of the queries of all seeds, with its 95 % interval.

    A bootstrap over videos: each is resampled with all its queries, of all seeds.
    """
    if not ours:
        return NOTHING
    pairs = [a.by_query - b.by_query for a, b in zip(ours, others, strict=True)]
    gain = estimate(np.concatenate(pairs), clusters=np.concatenate([v.videos for v in ours]))
    return f"{gain.value:+.1f} [{gain.low:.1f}, {gain.high:.1f}]"


def print_table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Print a table in Markdown, with a title above unless that is empty."""
    heading = f"\n{title}\n" if title else ""
    print(f"{heading}\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_means(title: str, columns: Sequence[str], rows: Mapping[str, Row]) -> None:
    """Print mean and standard deviation of each row and column."""
    cells = {
        name: [mean_and_deviation(row.get(column, ())) for column in columns]
        for name, row in rows.items()
    }
    print_table(title, columns, cells)


def print_differences(
    name: str, columns: Sequence[str], ours: Row, others: Mapping[str, Row]
) -> None:
    """Print, for each column, the best of the `others` by its mean, and the difference of `ours` to it."""
    best = {
        column: max(others, key=lambda other: mean_of(others[other].get(column, ())))
        for column in columns
        if ours.get(column)
    }
    cells = {
        "the better of the others" if len(others) > 1 else "compared with": [
            best.get(column, NOTHING) for column in columns
        ],
        name: [
            difference(ours[column], others[best[column]][column]) if column in best else NOTHING
            for column in columns
        ],
    }
    print_table("", columns, cells)
