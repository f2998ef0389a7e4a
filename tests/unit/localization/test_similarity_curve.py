"""Moments of curves match a search over all ranges of frames; planted moments have exact bounds."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import naive_search
from vla.errors import ShapeError, UsageError
from vla.localization.duration_range import ANY_DURATION
from vla.localization.similarity_curve import SimilarityCurve

RANGES = (ANY_DURATION, (0.0, 2.0), (2.4, 3.6), (5.0, np.inf), (1.0, 1.0), (900.0, 999.0))


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


def moments(curve, times, duration, count=100, duration_range=ANY_DURATION):
    spans, shares = SimilarityCurve(curve, times, duration).moments(count, duration_range)
    assert spans.shape == (len(shares), 2)
    return [(float(a), float(b), float(s)) for (a, b), s in zip(spans, shares, strict=True)]


@pytest.mark.parametrize("duration_range", RANGES, ids=str)
@pytest.mark.parametrize("seed", range(24))
def test_moments_match_brute_force(seed, duration_range):
    curve, times, duration = random_curve(seed, [1, 2, 3, 17, 60, 110][seed % 6])
    reference = naive_search.Curve(curve, times, duration)
    ours = SimilarityCurve(curve, times, duration)
    assert ours.mean == pytest.approx(reference.mean, abs=1e-12)
    assert ours.rise == pytest.approx(max(0.0, reference.rise), abs=1e-12)
    for count in (1, 2, 100):
        result = moments(curve, times, duration, count, duration_range)
        expected = reference.moments(count, duration_range)
        np.testing.assert_allclose(result, expected, atol=1e-9)


def invariants_hold(curve, times, duration, duration_range):
    every = moments(curve, times, duration, len(curve), duration_range)
    shares = [share for *_, share in every]
    assert shares[0] == 1 and shares == sorted(shares, reverse=True) and shares[-1] >= 0
    for (a, b, _), (c, d, _) in itertools.combinations(every, 2):
        assert b <= c or d <= a, "moments are disjoint"
    edges = {*times.tolist(), duration}
    assert all(a in edges and b in edges and a < b for a, b, _ in every)
    for count in range(1, len(every)):
        assert moments(curve, times, duration, count, duration_range) == every[:count]
    return every


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.sampled_from(RANGES))
def test_invariants_of_moments(values, duration_range):
    curve, times = np.array(values) / 64, np.arange(len(values)) / 2
    every = invariants_hold(curve, times, len(values) / 2, duration_range)
    shortest, longest = duration_range
    if SimilarityCurve(curve, times, len(values) / 2).rise > 1e-9 and shortest <= len(values) / 2:
        assert all(shortest - 1e-6 <= b - a <= longest + 1e-6 for a, b, _ in every)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(-8, 8), min_size=1, max_size=14),
    st.sampled_from([(0.0, 1.5), (1.0, 3.0), (2.0, np.inf), ANY_DURATION]),
)
def test_no_range_has_more_excess_than_the_best(values, duration_range):
    """Curves of few levels have many ranges of equal excess: any of these is a best moment."""
    curve, times, end = np.array(values) / 16, np.arange(len(values)) / 2, len(values) / 2
    reference = naive_search.Curve(curve, times, end)
    if reference.rise <= 1e-9:
        assert moments(curve, times, end) == [(0.0, end, 1.0)]
        return
    rows = reference.ranges(reference.threshold(), duration_range)
    if not rows or duration_range == ANY_DURATION:
        return
    start, stop, _ = moments(curve, times, end, 1, duration_range)[0]
    (excess,) = (e for e, a, b in rows if times[a] == start and reference.edges[b] == stop)
    assert excess == pytest.approx(rows[0][0], abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("duration_range", RANGES[:4], ids=str)
def test_offset_shift_and_scale(seed, duration_range):
    curve, times, duration = random_curve(seed, 80)
    plain = np.array(moments(curve, times, duration, 5, duration_range))
    for changed in (curve + 2.0, curve * 4.0):
        result = moments(changed, times, duration, 5, duration_range)
        np.testing.assert_allclose(result, plain, atol=1e-6)
    later = np.array(moments(curve, times + 64, duration + 64, 5, duration_range))
    np.testing.assert_allclose(later - [64, 64, 0], plain, atol=1e-6)


def test_a_step_has_exact_bounds():
    times = np.arange(60) / 2
    for first, last in ((20, 40), (0, 10), (50, 60), (30, 31), (8, 52)):
        curve = np.full(60, 0.2)
        curve[first:last] = 0.3
        assert moments(curve, times, 30.0) == [(first / 2, last / 2, 1.0)], (first, last)
    # Where a moment is nearly the whole video, half the way from the mean to the peak is so high
    # that smoothing costs a frame on either side.
    curve = np.full(60, 0.2)
    curve[3:57] = 0.3
    assert moments(curve, times, 30.0) == [(2.0, 28.0, 1.0)]
    curve = np.full(60, 0.2)
    curve[10:20], curve[40:44] = 0.3, 0.3
    # A smaller step is found with the share of its area over the threshold.
    (one, other) = moments(curve, times, 30.0)
    assert one == (5.0, 10.0, 1.0) and other[:2] == (20.0, 22.0)
    assert other[2] == pytest.approx(4 / 10, abs=0.05)  # smoothing costs short ones more
    assert moments(curve, times, 30.0, 1) == [one]


def test_thresholds_by_hand():
    """One frame a second is not smoothed enough to matter: the moments are sums over a threshold.

    Two levels explain all of the variance of the first curve: its threshold is half the way from
    the mean 0.25 to the peak 1, at 0.625, and the excess of the moment 2 x 0.375. In the second
    curve, two peaks of 1 next to 0.4 explain less; the lowest threshold still cuts these off.
    """
    two_levels = np.array([0, 0, 0, 1, 1, 0, 0, 0.0])
    assert moments(two_levels, np.arange(8.0), 8.0) == [(3.0, 5.0, 1.0)]
    curve = np.array([0, 0, 1, 0.4, 1, 0, 0, 0, 0, 0, 0.9, 0])
    reference = naive_search.Curve(curve, np.arange(12.0), 12.0)
    # Mean 3.3 / 12, peak 1: a quarter of the way is 0.456, half of the way 0.638.
    assert reference.mean == pytest.approx(0.275, abs=2e-3)
    assert 0.45 < reference.threshold() < 0.64
    (one, other) = moments(curve, np.arange(12.0), 12.0)
    assert one[:2] == (2.0, 5.0) and other[:2] == (10.0, 11.0) and 0.3 < other[2] < 0.7


def test_planted_moment_with_a_dip_is_one():
    """Seconds 30 to 37.5 of a minute, and a dip of half a second within does not break it."""
    times = np.arange(120) / 2
    curve = np.random.default_rng(0).normal(0.2, 0.004, 120)
    curve[60:75] += 0.1
    curve[66] -= 0.1
    assert moments(curve, times, 60.0, 1) == [(30.0, 37.5, 1.0)]


def test_a_slope_is_cut_where_the_curve_is_half_as_high():
    """A triangle over a level curve: without a range, bounds lie half the way to its mean level."""
    curve = np.zeros(200)
    curve[60:101] = np.linspace(0, 1, 41)
    curve[100:141] = np.linspace(1, 0, 41)
    ((start, end, _),) = moments(curve, np.arange(200.0), 200.0)
    reference = naive_search.Curve(curve, np.arange(200.0), 200.0)
    middle = (reference.mean + reference.level(int(start), int(end))) / 2
    assert start + end == 201
    assert reference.values[int(start)] >= reference.threshold() - 0.03
    assert reference.values[int(start)] > middle > reference.values[59]


def test_a_short_peak_and_a_long_moment_of_equal_height():
    curve = np.full(60, 0.2)
    curve[5:10] = curve[30:45] = 0.3
    (one, other) = moments(curve, np.arange(60.0), 60.0)
    assert one == (30.0, 45.0, 1.0)
    assert other == (5.0, 10.0, pytest.approx(1 / 3, abs=0.01))


def test_a_duration_range_chooses_the_best_part():
    """Eight seconds show the dog, and two of them a little better."""
    times, curve = np.arange(120) / 2, np.full(120, 0.1)
    curve[60:76] = 0.3
    curve[66:70] = 0.32
    assert moments(curve, times, 60.0, 1) == [(30.0, 38.0, 1.0)]
    assert moments(curve, times, 60.0, 1, (1.5, 2.0)) == [(33.0, 35.0, 1.0)]
    (start, end, _) = moments(curve, times, 60.0, 1, (2.4, 3.0))[0]
    assert start <= 33.0 and end >= 35.0 and end - start in (2.5, 3.0)
    # Longer than the scene: both bounds lie outside, where the curve is below the threshold.
    (start, end, _) = moments(curve, times, 60.0, 1, (10.0, 12.0))[0]
    assert end - start == 10.0 and start <= 30.0 and end >= 38.0
    # A second moment needs a positive excess of its own.
    assert len(moments(curve, times, 60.0, 9, (10.0, 12.0))) == 1


def test_a_range_that_no_moment_has_is_ignored():
    curve, times, duration = random_curve(1, 60)
    assert moments(curve, times, duration, 9, (900.0, 999.0)) == moments(curve, times, duration, 9)
    even = np.arange(60.0)
    assert moments(curve, even, 60.0, 9, (2.2, 2.8)) == moments(curve, even, 60.0, 9)


@pytest.mark.parametrize("duration_range", RANGES, ids=str)
@pytest.mark.parametrize("frames", [1, 2, 50])
@pytest.mark.parametrize("value", [0.3, 0.0, -1 / 3])
def test_a_flat_curve_is_the_whole_video(frames, value, duration_range):
    times = np.arange(frames) / 2
    result = moments(np.full(frames, value), times, frames / 2, 9, duration_range)
    assert result == [(0.0, frames / 2, 1.0)]
    assert SimilarityCurve(np.full(frames, value), times, frames / 2).rise == 0


def test_noise_has_a_low_threshold():
    """No moment explains the variance of white noise, so that moments are as long as they can be."""
    rng, lengths = np.random.default_rng(3), []
    for _ in range(20):
        reference = naive_search.Curve(rng.standard_normal(80), np.arange(80) / 2, 40.0)
        share = (reference.threshold() - reference.mean) / reference.rise
        lengths.append(share)
        invariants_hold(rng.standard_normal(80), np.arange(80) / 2, 40.0, ANY_DURATION)
    assert np.median(lengths) == 0.25 and max(lengths) < 0.4


def test_ignores_frames_of_zero_duration():
    curve = np.full(60, 0.2)
    curve[30:36] = 0.4
    times = np.arange(60) / 2
    plain = moments(curve, times, 30.0)
    for where, value in ((30, 0.4), (10, 9.0), (0, -9.0)):
        more = np.insert(curve, where, value), np.insert(times, where, times[where])
        assert moments(*more, 30.0) == plain
    assert moments(np.append(curve, 9.0), np.append(times, 30.0), 30.0) == plain
    # If no frame has any time on screen, the last one is kept.
    assert moments([1.0, 2.0], [3.0, 3.0], 3.0) == [(3.0, 3.0, 1.0)]


def test_a_long_video_needs_little_memory():
    """Two hours: not all 100 million ranges are tried one by one."""
    times = np.arange(14_400) / 2
    curve = np.random.default_rng(0).normal(0.2, 0.002, 14_400)
    curve[4000:9000] += 0.1
    for duration_range in (ANY_DURATION, (10.0, 4000.0)):
        tracemalloc.start()
        spans, _ = SimilarityCurve(curve, times, 7200.0).moments(20, duration_range)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 50e6
        assert spans[0].tolist() == [2000.0, 4500.0]


def test_work_does_not_grow_with_the_square_of_the_length(monkeypatch):
    """Of many moments, each is searched in what is left between the others alone."""
    sizes, best = [], SimilarityCurve._best

    def count(self, integral, start, end, duration_range):
        sizes.append(end - start)
        return best(self, integral, start, end, duration_range)

    monkeypatch.setattr(SimilarityCurve, "_best", count)
    curve = np.tile([0.0] * 5 + [1.0] * 5, 400)
    spans, _ = SimilarityCurve(curve, np.arange(4000.0), 4000.0).moments(5)
    assert len(spans) == 5 and len(sizes) <= 3 + 1 + 2 * 5 + 5


@pytest.mark.parametrize(
    ("curve", "times", "duration", "error"),
    [
        ([], [], 0.0, ShapeError),
        ([1.0], [0.0, 1.0], 2.0, ShapeError),
        ([[1.0]], [0.0], 2.0, ShapeError),
        ([np.nan], [0.0], 1.0, UsageError),
        ([1.0, 2.0], [1.0, 0.0], 2.0, UsageError),
        ([1.0], [3.0], 2.0, UsageError),
        ([1.0], [0.0], np.inf, UsageError),
    ],
)
def test_rejects_invalid_curves(curve, times, duration, error):
    with pytest.raises(error):
        SimilarityCurve(curve, times, duration)
