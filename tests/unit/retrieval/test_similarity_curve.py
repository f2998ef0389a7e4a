"""Contrast of spans matches loops, and invariants of any curve."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import naive_search
from vla.errors import ShapeError, UsageError
from vla.retrieval.similarity_curve import SimilarityCurve
from vla.spans import windows


def random_curve(seed, frames):
    """A noisy curve with a few raised stretches, over times that are not even."""
    rng = np.random.default_rng(seed)
    curve = rng.normal(0.2, 0.02, frames)
    for _ in range(rng.integers(0, 4)):
        start = rng.integers(0, frames)
        curve[start : start + rng.integers(1, 12)] += rng.uniform(0.02, 0.2)
    times = (
        np.cumsum(rng.choice([0.0, 0.25, 0.5, 0.5, 0.5, 1.0], frames))
        if seed % 3
        else np.arange(frames) / 2
    )
    return curve, times, float(times[-1] + rng.uniform(0, 1))


def contrast(curve, times, duration, spans):
    return SimilarityCurve(curve, times, duration).contrast(spans)


def grid(times, duration):
    """Return every span between two of about twelve times."""
    edges = np.unique([*times[:: max(1, len(times) // 12)], duration])
    return [(a, b) for i, a in enumerate(edges) for b in edges[i + 1 :]]


@pytest.mark.parametrize("seed", range(24))
def test_contrast_matches_brute_force(seed):
    curve, times, duration = random_curve(seed, [1, 2, 3, 17, 60, 140][seed % 6])
    spans = [w[2:] for w in windows(times, duration) if w[3] > w[2]] + grid(times, duration)
    ours, reference = (
        SimilarityCurve(curve, times, duration),
        naive_search.Curve(curve, times, duration),
    )
    np.testing.assert_allclose(
        ours.contrast(spans), [reference.contrast(s) for s in spans], atol=1e-9
    )
    for span in spans[::19]:
        for gain in (1e-6, 0.05, 9.0):
            refined, expected = ours.refine_bounds(span, gain), reference.refine_bounds(span, gain)
            # Two may be as good but for rounding.
            assert reference.contrast(refined) == pytest.approx(
                reference.contrast(expected), abs=1e-9
            )
            assert gain < 9 or refined.tolist() == list(reference.frame_bounds(span))
        for duration_range in ((0.0, 2.0), (2.4, 3.6), (5.0, np.inf), (900.0, 999.0)):
            refined, expected = (
                ours.refine_bounds(span, 0.05, duration_range),
                reference.refine_bounds(span, 0.05, duration_range),
            )
            assert reference.contrast(refined) == pytest.approx(
                reference.contrast(expected), abs=1e-9
            )
            assert (
                duration_range[0] == 900
                or abs(np.diff(refined) - np.diff(expected))
                <= duration_range[1] - duration_range[0]
            )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=50))
def test_invariants_of_contrast(values):
    curve, times = np.array(values) / 64, np.arange(len(values)) / 2
    spans = grid(times, len(values) / 2)
    refined = contrast(curve, times, len(values) / 2, spans)
    assert refined.shape == (len(spans),)
    # The frame at the peak is above the threshold.
    assert refined.max() > 0 or not refined.any()
    # Spans are independent of each other.
    assert contrast(curve, times, len(values) / 2, [*spans[::-1], *spans]).tolist() == [
        *refined[::-1],
        *refined,
    ]


@pytest.mark.parametrize("seed", range(8))
def test_offset_shift_and_scale(seed):
    curve, times, duration = random_curve(seed, 80)
    spans = np.array(grid(times, duration))
    plain = contrast(curve, times, duration, spans)
    np.testing.assert_allclose(contrast(curve + 2.0, times, duration, spans), plain, atol=1e-9)
    np.testing.assert_allclose(contrast(curve * 4.0, times, duration, spans), 4 * plain, atol=1e-9)
    np.testing.assert_allclose(
        contrast(curve, times + 64, duration + 64, spans + 64), plain, atol=1e-9
    )


def best(curve, times, duration):
    spans = [(a, b) for a in times for b in [*times, duration] if a < b]
    return spans[int(contrast(curve, times, duration, spans).argmax())]


def test_planted_span_has_the_highest_contrast():
    """Seconds 30 to 37.5 of a minute, and a dip of half a second within does not break it."""
    times = np.arange(120) / 2
    curve = np.random.default_rng(0).normal(0.2, 0.004, 120)
    curve[60:75] += 0.1
    curve[66] -= 0.1
    assert best(curve, times, 60.0) == (30.0, 37.5)


def test_longer_span_of_equal_height_has_more_contrast():
    curve = np.full(60, 0.2)
    curve[5:10] = curve[30:45] = 0.3
    spans = [(5.0, 10.0), (30.0, 45.0), (5.0, 45.0), (46.0, 59.0)]
    refined = contrast(curve, np.arange(60.0), 60.0, spans)
    refined = refined / refined[1]
    # Height times root of length, but for what is smoothed away: 0.58 of the longer one.
    assert (
        refined[1] == 1
        and refined[0] == pytest.approx((5 / 15) ** 0.5, abs=0.02)
        and refined[3] == pytest.approx(-((13 / 15) ** 0.5), abs=0.02)
    )
    assert refined[3] < refined[2] < 0


def test_refines_bounds_if_the_gain_suffices():
    curve = np.full(60, 0.2)
    curve[30:45] = 0.3
    curve_of_video = SimilarityCurve(curve, np.arange(60.0), 60.0)
    for near in ((28.0, 44.0), (26.0, 50.0), (34.0, 46.0), (30.0, 45.0)):
        assert curve_of_video.refine_bounds(near, 0.01).tolist() == [30.0, 45.0]
    assert curve_of_video.refine_bounds((28.0, 44.0), 9.0).tolist() == [28.0, 44.0]


def test_refines_long_spans_with_little_memory():
    """One bound in seventeen is tried, instead of all 64 million pairs."""
    times = np.arange(14_400) / 2
    curve = np.full(14_400, 0.2)
    curve[4000:9000] = 0.3
    curve_of_video = SimilarityCurve(curve, times, 7200.0)
    tracemalloc.start()
    start, end = curve_of_video.refine_bounds((1500.0, 5500.0), 1e-6)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 50e6
    assert abs(start - 2000.0) <= 5 and abs(end - 4500.0) <= 5
    assert (
        curve_of_video.contrast([(start, end)])[0] > curve_of_video.contrast([(1500.0, 5500.0)])[0]
    )


def test_moment_that_covers_most_of_a_short_video():
    curve = np.full(20, 0.2)
    curve[4:18] = [0.3, 0.31] * 7
    assert best(curve, np.arange(20.0), 20.0) == (4.0, 18.0)


@pytest.mark.parametrize("frames", [1, 2, 50])
@pytest.mark.parametrize("value", [0.3, 0.0, -1 / 3])
def test_flat_curve_has_no_contrast(frames, value):
    spans = grid(np.arange(frames) / 2, frames / 2)
    assert not contrast(np.full(frames, value), np.arange(frames) / 2, frames / 2, spans).any()


def test_ignores_frames_of_zero_duration():
    curve = np.full(60, 0.2)
    curve[30:36] = 0.4
    times = np.arange(60) / 2
    spans = grid(times, 30.0)
    plain = contrast(curve, times, 30.0, spans)
    for where, value in ((30, 0.4), (10, 9.0), (0, -9.0)):
        more = contrast(
            np.insert(curve, where, value), np.insert(times, where, times[where]), 30.0, spans
        )
        np.testing.assert_allclose(more, plain, atol=1e-12)
    np.testing.assert_allclose(
        contrast(np.append(curve, 9.0), np.append(times, 30.0), 30.0, spans), plain, atol=1e-12
    )


@pytest.mark.parametrize(
    ("curve", "times", "duration", "spans", "error"),
    [
        ([], [], 0.0, [], ShapeError),
        ([1.0], [0.0, 1.0], 2.0, [], ShapeError),
        ([[1.0]], [0.0], 2.0, [], ShapeError),
        ([np.nan], [0.0], 1.0, [], UsageError),
        ([1.0, 2.0], [1.0, 0.0], 2.0, [], UsageError),
        ([1.0], [3.0], 2.0, [], UsageError),
        ([1.0], [0.0], np.inf, [], UsageError),
        ([1.0], [0.0], 1.0, [(1.0, 0.0)], UsageError),
    ],
)
def test_rejects_invalid_curves(curve, times, duration, spans, error):
    with pytest.raises(error):
        contrast(curve, times, duration, spans)
