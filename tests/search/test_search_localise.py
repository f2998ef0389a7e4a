"""Where a curve stands out: what a loop finds, and what must hold for any curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive_search
from vla.errors import ShapeError, UsageError
from vla.search.localise import localise
from vla.spans import iou, windows


def drawn(seed, frames):
    """A noisy curve with a few raised stretches, over times that are not even."""
    rng = np.random.default_rng(seed)
    curve = rng.normal(0.2, 0.02, frames)
    for _ in range(rng.integers(0, 4)):
        start = rng.integers(0, frames)
        curve[start : start + rng.integers(1, 12)] += rng.uniform(0.02, 0.2)
    times = np.cumsum(rng.choice([0.0, 0.25, 0.5, 0.5, 0.5, 1.0], frames)) if seed % 3 else np.arange(frames) / 2
    return curve, times, float(times[-1] + rng.uniform(0, 1))


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("with_windows", [False, True])
def test_the_spans_are_those_of_a_loop(seed, with_windows):
    curve, times, duration = drawn(seed, [1, 2, 3, 17, 60, 140][seed % 6])
    others = [w[2:] for w in windows(times, duration) if w[3] > w[2]] if with_windows else []
    found, wanted = localise(curve, times, duration, others), naive_search.localised(curve, times, duration, others)
    np.testing.assert_allclose(found.scores, [w[0] for w in wanted], atol=1e-9)
    # Two spans may have one score but for rounding; where they do not, they are the same.
    if len(set(np.round(found.scores, 7))) == len(found.scores):
        np.testing.assert_allclose(found.spans, [w[1:3] for w in wanted], atol=1e-9)
        np.testing.assert_allclose(found.peaks, [w[3] for w in wanted], atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=50), st.integers(1, 12))
def test_what_holds_for_any_curve(values, most):
    curve, times = np.array(values) / 64, np.arange(len(values)) / 2
    duration = len(values) / 2
    found = localise(curve, times, duration, most=most)
    assert 1 <= len(found.spans) <= most and len(found.spans) == len(found.scores) == len(found.peaks)
    assert (np.diff(found.scores) <= 0).all() and (found.scores >= 0).all()
    assert (found.spans[:, 0] < found.spans[:, 1]).all() and found.spans.min() >= 0 and found.spans.max() <= duration
    assert set(found.spans.ravel()) <= {*times, duration}
    assert ((found.spans[:, 0] <= found.peaks) & (found.peaks < found.spans[:, 1])).all()
    overlaps = iou(found.spans, found.spans) - np.eye(len(found.spans))
    assert (overlaps <= 0.3 + 1e-12).all()
    for (start, end), peak in zip(found.spans, found.peaks, strict=True):
        inside = curve[(times >= start) & (times < end)]
        assert curve[times == peak][0] == inside.max()


@pytest.mark.parametrize("seed", range(8))
def test_a_shift_of_the_curve_changes_nothing_and_a_factor_only_the_scores(seed):
    curve, times, duration = drawn(seed, 80)
    curve = np.round(curve * 1024) / 1024  # sums of these are exact, so ties stay ties
    plain, shifted, scaled = (localise(c, times, duration) for c in (curve, curve + 2.0, curve * 4.0))
    np.testing.assert_allclose(shifted.scores, plain.scores, atol=1e-9)
    np.testing.assert_allclose(scaled.scores, 4 * plain.scores, atol=1e-9)
    for other in (shifted, scaled):
        np.testing.assert_array_equal(other.spans, plain.spans)
        np.testing.assert_array_equal(other.peaks, plain.peaks)


def test_a_shift_in_time_shifts_the_spans():
    curve, times, duration = drawn(3, 90)
    plain, later = localise(curve, times, duration), localise(curve, times + 64, duration + 64)
    np.testing.assert_allclose(later.spans, plain.spans + 64)
    np.testing.assert_allclose(later.scores, plain.scores, atol=1e-9)


def test_a_planted_stretch_is_found():
    """Seconds 30 to 37.5 of two minutes, and a dip of half a second within does not break it."""
    times = np.arange(240) / 2
    curve = np.random.default_rng(0).normal(0.2, 0.004, 240)
    curve[60:75] += 0.1
    curve[66] -= 0.1
    best = localise(curve, times, 120.0)
    # Smoothing may cost the frames at both ends.
    assert iou(best.spans[:1], [[30.0, 37.5]])[0, 0] >= 6.5 / 7.5 and 30 <= best.peaks[0] < 37.5


def test_two_stretches_are_two_spans_the_longer_first():
    curve = np.full(200, 0.2)
    curve[20:30] = curve[100:130] = 0.3
    found = localise(curve, np.arange(200.0), 200.0)
    assert found.spans[:2].tolist() == [[100.0, 130.0], [20.0, 30.0]]


def test_a_moment_that_takes_most_of_a_short_video_is_found_whole():
    curve = np.full(20, 0.2)
    curve[4:18] = [0.3, 0.31] * 7
    assert localise(curve, np.arange(20.0), 20.0).spans[0].tolist() == [4.0, 18.0]


def test_what_does_not_rise_follows_what_does_by_its_mean():
    curve = np.full(60, 0.1)
    curve[10:20], curve[30:40], curve[50:55] = 0.5, 0.3, 0.2
    others = [(50.0, 55.0), (30.0, 40.0)]
    found = localise(curve, np.arange(60.0), 60.0, others, most=3)
    assert found.spans.tolist() == [[10.0, 20.0], [30.0, 40.0], [50.0, 55.0]]
    assert found.scores[0] > 0 and found.scores[1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_a_flat_curve_is_the_whole_video_with_score_0(frames):
    found = localise(np.full(frames, 0.3), np.arange(frames) / 2, frames / 2)
    assert found.spans.tolist() == [[0.0, frames / 2]] and found.scores.tolist() == [0.0]


def test_frames_that_are_never_shown_count_for_nothing():
    curve = np.full(60, 0.2)
    curve[30:36] = 0.4
    times = np.arange(60) / 2
    plain = localise(curve, times, 30.0)
    for where, value in ((30, 0.4), (10, 9.0), (0, -9.0)):
        more = localise(np.insert(curve, where, value), np.insert(times, where, times[where]), 30.0)
        np.testing.assert_array_equal(more.spans, plain.spans)
        np.testing.assert_allclose(more.scores, plain.scores, atol=1e-12)
    np.testing.assert_array_equal(localise(np.append(curve, 9.0), np.append(times, 30.0), 30.0).spans, plain.spans)


@pytest.mark.parametrize(
    ("curve", "times", "duration", "most", "error"),
    [
        ([], [], 0.0, 1, ShapeError),
        ([1.0], [0.0, 1.0], 2.0, 1, ShapeError),
        ([[1.0]], [0.0], 2.0, 1, ShapeError),
        ([np.nan], [0.0], 1.0, 1, UsageError),
        ([1.0, 2.0], [1.0, 0.0], 2.0, 1, UsageError),
        ([1.0], [3.0], 2.0, 1, UsageError),
        ([1.0], [0.0], np.inf, 1, UsageError),
        ([1.0], [0.0], 1.0, 0, UsageError),
    ],
)
def test_what_is_no_curve(curve, times, duration, most, error):
    with pytest.raises(error):
        localise(curve, times, duration, most=most)
