"""Refined ends of moments against all ranges of frames, one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.localization.refinement import MIN_IOU, refine_spans
from vla.spans import iou


def contrast(values, edges, start, end):
    """Integral of the values over their mean from edge to edge, by the root of the duration."""
    seconds = np.diff(edges)
    mean = (values * seconds).sum() / seconds.sum()
    inside = slice(start, end)
    return ((values - mean) * seconds)[inside].sum() / np.sqrt(edges[end] - edges[start])


def best_range(values, edges, span, min_iou):
    """The range of frames of the highest contrast with this IoU; None without one."""
    ranges = [
        (contrast(values, edges, i, j), edges[i], edges[j])
        for i in range(len(values))
        for j in range(i + 1, len(values) + 1)
        if edges[j] > edges[i] and float(iou([[edges[i], edges[j]]], [span])[0, 0]) >= min_iou
    ]
    return max(ranges, default=None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_matches_loops_over_all_ranges(seed, count):
    """With so few frames all ranges are candidates. Frames have any durations, also none."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(count)
    edges = np.append(0.0, np.cumsum(rng.choice([0.0, 0.5, 1.0, 2.5], count) + [1e-3] * count))
    spans = np.sort(rng.uniform(0, edges[-1], (5, 2)), axis=1)
    ranges, contrasts = refine_spans(values, edges, spans)
    for span, found, value in zip(spans, ranges, contrasts, strict=True):
        expected = best_range(values, edges, span, MIN_IOU)
        if expected is None:
            assert found == pytest.approx(span)
        else:
            assert value == pytest.approx(expected[0])
            start, end = (int(np.abs(edges - time).argmin()) for time in found)
            assert contrast(values, edges, start, end) == pytest.approx(expected[0])
            assert float(iou([found], [span])[0, 0]) >= MIN_IOU - 1e-9


def test_step_is_found_to_the_frame():
    values = np.zeros(40)
    values[11:23] = 1.0
    ranges, contrasts = refine_spans(values, np.arange(41.0), [[10.0, 21.0], [13.0, 24.0]])
    assert ranges.tolist() == [[11.0, 23.0]] * 2
    assert contrasts == pytest.approx([12 * (1 - 12 / 40) / np.sqrt(12)] * 2)


def test_long_moments_have_a_grid_of_candidates():
    """A moment of 2,000 frames moves to within 5 % of its length of the true ends."""
    values = np.zeros(6000)
    values[2000:4000] = 1.0
    ranges, _ = refine_spans(values, np.arange(6001.0), [[2200.0, 4300.0]])
    assert np.abs(ranges - [2000, 4000]).max() < 105


def test_moment_within_a_frame_is_unchanged():
    ranges, contrasts = refine_spans([1.0, 0.0], [0.0, 10.0, 20.0], [[3.0, 4.0]])
    assert ranges.tolist() == [[3.0, 4.0]]
    assert contrasts == pytest.approx([0.5])


def test_frames_without_duration():
    ranges, contrasts = refine_spans([1.0, 0.0], [2.0, 2.0, 2.0], [[2.0, 2.0]])
    assert ranges.tolist() == [[2.0, 2.0]] and np.isfinite(contrasts).all()
    assert refine_spans([1.0], [0.0, 1.0], np.zeros((0, 2)))[0].shape == (0, 2)
