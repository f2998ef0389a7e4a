"""Progress of long operations, reported to a callback. The library prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """State of an operation at one moment.

    Attributes:
        stage: name of the operation: `extract`, `train`, `index`, `render` ...
        done: number of completed units.
        total: number of units; 0 if unknown.
        message: one line for a person, or empty.
        level: `info`, `warning` (something was left out) or `note` (stays on screen).
        values: named numbers, e.g. losses or frames per second.
        part: completed share of the units in progress, in units.
    """

    stage: str
    done: int = 0
    total: int = 0
    message: str = ""
    level: str = "info"
    values: Mapping[str, float] = field(default_factory=dict)
    part: float = 0.0


ProgressCallback = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Ignore all progress; the default callback."""
