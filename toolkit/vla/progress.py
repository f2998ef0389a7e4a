"""How long work reports on itself: a record handed to a callback. The library prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One thing that happened.

    Attributes:
        stage: what is being done: `decode`, `encode`, `train`, `index`, `render` ...
        done: units finished so far.
        total: units in all; 0 where it is not known.
        message: one line for a person, or empty.
        level: `info`, `warning` (something was left out) or `note` (worth keeping on screen).
        values: named figures, e.g. losses or frames per second.
        part: how much of the units that are being worked on is done, in units.
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
    """The callback that does nothing."""
