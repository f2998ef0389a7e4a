"""The localiser's numbers, chosen where nothing is tested; for localisers.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from types import ModuleType

import numpy as np

from vla.retrieval import moments, similarity_curve

NUMBERS: list[tuple[ModuleType, str, tuple[float, ...]]] = [
    (similarity_curve, "_LEVEL", (0.4, 0.5, 0.6, 0.7)),
    (similarity_curve, "_SMOOTH", (0.25, 0.5, 1.0)),
    (similarity_curve, "_LENGTH", (0.0, 0.25, 0.5, 0.75)),
    (moments, "_CONTRAST", (0.02, 0.05, 0.07, 0.1, 0.2, 0.5)),
]
Point = tuple[float, ...]
"""How far up the level lies, seconds of smoothing, power of the length, weight of the contrast beside the cosine."""


def present() -> Point:
    return tuple(getattr(module, name) for module, name, _ in NUMBERS)


@contextmanager
def numbers(point: Point) -> Iterator[None]:
    """The localiser has these numbers meanwhile."""
    before = present()
    try:
        _set(point)
        yield
    finally:
        _set(before)


def _set(point: Point) -> None:
    for (module, name, _), value in zip(NUMBERS, point, strict=True):
        setattr(module, name, value)


def chosen(score: Callable[[], float]) -> list[tuple[float, Point]]:
    """Every point with its score, best first."""
    found = []
    for point in product(*(values for *_, values in NUMBERS)):
        with numbers(point):
            found.append((score(), point))
    return sorted(found, reverse=True)


def even(values: Sequence[np.ndarray]) -> float:
    """The mean of the means: every world counts as much."""
    return float(np.mean([np.mean(v) for v in values]))
