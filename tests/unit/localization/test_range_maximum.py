"""Maxima of many ranges match one search for each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.localization.range_maximum import range_argmax


@st.composite
def values_and_ranges(draw):
    values = draw(st.lists(st.integers(-3, 3), max_size=40))
    bounds = st.integers(0, len(values))
    return values, draw(st.lists(st.tuples(bounds, bounds), max_size=30))


@settings(deadline=None, max_examples=200)
@given(values_and_ranges())
def test_the_earliest_maximum_of_each_range(case):
    values, ranges = case
    first, last = np.array(ranges, int).reshape(-1, 2).T
    result = range_argmax(np.array(values, np.float64), first, last)
    expected = [max(range(a, b), key=lambda i: (values[i], -i)) if a < b else -1 for a, b in ranges]
    assert result.tolist() == expected


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 255, 256, 257])
def test_every_range_of_arrays_around_powers_of_two(length):
    values = np.random.default_rng(length).standard_normal(length)
    bounds = np.unique([0, 1, length // 2, length - 1, length])
    first, last = (grid.ravel() for grid in np.meshgrid(bounds, bounds))
    for a, b, row in zip(first, last, range_argmax(values, first, last), strict=True):
        assert row == (a + values[a:b].argmax() if a < b else -1)


def test_minus_infinity_is_a_value():
    values = np.full(4, -np.inf)
    assert range_argmax(values, np.array([0, 1, 4]), np.array([4, 2, 4])).tolist() == [0, 1, -1]
