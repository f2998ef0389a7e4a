"""Maxima over ranges of an array, for many ranges at once."""

from __future__ import annotations

import numpy as np


def range_argmax(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return for each range `[first, last)` the position of the maximum of `values`, the earliest
    of equal ones; -1 for an empty range.

    Maxima over runs of 1, 2, 4, ... values make the cost of a range independent of its length
    (sparse table: Bender and Farach-Colton 2000).

    Args:
        values: `(N,)`.
        first: `(M,)` integers in [0, N].
        last: `(M,)` integers in [0, N].
    """
    levels = [np.arange(len(values))]
    while 2 ** len(levels) <= len(values):
        half = 2 ** (len(levels) - 1)
        left, right = levels[-1][:-half], levels[-1][half:]
        levels.append(np.where(values[right] > values[left], right, left))
    positions = np.full(len(first), -1, np.int64)
    lengths = np.asarray(last) - np.asarray(first)
    for level, maxima in enumerate(levels):
        rows = np.flatnonzero((lengths >= 2**level) & (lengths < 2 ** (level + 1)))
        if len(rows):
            left, right = maxima[first[rows]], maxima[last[rows] - 2**level]
            positions[rows] = np.where(values[right] > values[left], right, left)
    return positions
