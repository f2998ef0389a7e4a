"""The localiser's numbers, chosen where nothing is tested; for localisers.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import numpy as np

from vla.search import localise as localiser

LEVELS, SMOOTH, GAPS = (0.5, 0.6, 0.7, 0.8), (0.25, 0.5, 1.0, 2.0), (0.0, 1.0, 2.0)
QUANTILES = (np.linspace(0.3, 0.98, 18), np.linspace(0.5, 0.95, 10), np.linspace(0.1, 0.99, 40))
Point = tuple[float, float, float, int]
"""How far up the level lies, seconds of smoothing, seconds of a dip, number of quantiles."""


def present() -> Point:
    return (localiser._LEVEL, localiser._SMOOTH, localiser._GAP, len(localiser._LEVELS))


@contextmanager
def numbers(point: Point) -> Iterator[None]:
    """The localiser has these numbers meanwhile."""
    names = ("_LEVEL", "_SMOOTH", "_GAP", "_LEVELS")
    before = [getattr(localiser, name) for name in names]
    quantiles = {len(q): q for q in (*QUANTILES, before[-1])}[point[3]]
    try:
        for name, value in zip(names, (*point[:3], quantiles), strict=True):
            setattr(localiser, name, value)
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(localiser, name, value)


def chosen(score: Callable[[], float]) -> list[tuple[float, Point]]:
    """Every point with its score, best first: first the grid at the present quantiles, then other quantiles at the best."""
    found = [(_at(score, (*point, present()[3])), (*point, present()[3])) for point in product(LEVELS, SMOOTH, GAPS)]
    best = max(found)[1]
    found += [(_at(score, (*best[:3], len(q))), (*best[:3], len(q))) for q in QUANTILES if len(q) != best[3]]
    return sorted(found, reverse=True)


def _at(score: Callable[[], float], point: Point) -> float:
    with numbers(point):
        return score()


def even(values: Sequence[np.ndarray]) -> float:
    """The mean of the means: every world counts as much."""
    return float(np.mean([np.mean(v) for v in values]))
