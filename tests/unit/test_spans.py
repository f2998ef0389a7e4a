"""Spans against naive loops, and windows against what is promised of them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ShapeError, UsageError
from vla.spans import frames_in, iou, merge, nms, windows

# Quarter seconds make spans touch and coincide often, and their arithmetic exact.
MOMENT = st.integers(0, 80).map(lambda n: n / 4)
SPAN = st.tuples(MOMENT, MOMENT).map(sorted)
SPANS = st.lists(SPAN, max_size=12).map(lambda rows: np.array(rows, dtype=float).reshape(-1, 2))


@st.composite
def videos(draw, quarters=False):
    """Timestamps that may repeat and need not begin at 0, and a duration past the last."""
    gap = st.integers(0, 8).map(lambda n: n / 4) if quarters else st.floats(0, 3)
    timestamps = np.cumsum(draw(st.lists(gap, min_size=1, max_size=40)))
    return timestamps, float(timestamps[-1]) + draw(st.integers(1, 20)) / 4


def naive_iou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    covered = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / covered if covered > 0 else 0.0


def test_iou_by_hand():
    assert iou([(0, 4), (2, 3)], [(2, 6), (4, 5), (0, 4)]).tolist() == [
        [2 / 6, 0.0, 1.0],
        [1 / 4, 0.0, 1 / 4],
    ]
    assert iou([(1, 1)], [(1, 1)]).tolist() == [[0.0]]
    assert iou([], [(0, 1)]).shape == (0, 1)


@given(SPANS, SPANS)
@settings(deadline=None)
def test_iou_is_symmetric_bounded_and_naive(a, b):
    got = iou(a, b)
    assert (got == iou(b, a).T).all()
    assert got.shape == (len(a), len(b))
    assert got.tolist() == [[naive_iou(x, y) for y in b] for x in a]
    assert ((got >= 0) & (got <= 1)).all()


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)).map(sorted), min_size=1, max_size=8)
)
@settings(deadline=None)
def test_iou_of_any_floats_stays_in_bounds_and_is_one_with_itself(rows):
    spans = np.array(rows)
    got = iou(spans, spans)
    assert ((got >= 0) & (got <= 1)).all()
    assert (np.diag(got) == (spans[:, 1] > spans[:, 0])).all()


def test_nms_by_hand():
    spans = [(0, 4), (1, 5), (10, 12), (0, 4)]
    assert nms(spans, [0.5, 0.9, 0.1, 0.9], 0.5).tolist() == [1, 2]
    assert nms(spans, [0.5, 0.9, 0.1, 0.9], 0.6).tolist() == [
        1,
        3,
        2,
    ]  # IoU of the first two is exactly 0.6
    assert nms(spans, [0.9, 0.9, 0.1, 0.9], 0.7).tolist() == [0, 1, 2]
    assert nms([], [], 0.5).tolist() == []


def shared_of_shorter(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    shorter = min(a[1] - a[0], b[1] - b[0])
    return shared / shorter if shorter else 0.0


@given(
    SPANS, st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.sampled_from([0.0, 0.5, 1.0]), st.data()
)
@settings(deadline=None)
def test_nms_keeps_spans_without_better_overlap(spans, threshold, nested, data):
    scores = data.draw(st.lists(st.integers(0, 4), min_size=len(spans), max_size=len(spans)))
    kept = []
    for i in sorted(range(len(spans)), key=lambda i: (-scores[i], i)):
        if all(naive_iou(spans[i], spans[k]) <= threshold for k in kept) and all(
            shared_of_shorter(spans[i], spans[k]) <= nested for k in kept
        ):
            kept.append(i)
    assert nms(spans, scores, threshold, nested=nested).tolist() == kept
    assert nms(spans, scores, threshold, most=2, nested=nested).tolist() == kept[:2]


def test_merge_by_hand():
    assert merge([(5, 6), (0, 2), (2, 3), (1, 1.5)]).tolist() == [[0, 3], [5, 6]]
    assert merge([(0, 10), (1, 2), (11, 12)], gap=1).tolist() == [[0, 12]]
    assert merge([(0, 10), (1, 2), (11, 12)], gap=0.5).tolist() == [[0, 10], [11, 12]]
    assert merge([]).shape == (0, 2)


@given(SPANS, st.integers(0, 8).map(lambda n: n / 4))
@settings(deadline=None)
def test_merge_covers_the_same_time_in_separate_spans(spans, gap):
    got = merge(spans, gap)
    assert (got[1:, 0] - got[:-1, 1] > gap).all()
    for quarter in np.arange(0, 20.25, 0.25):
        inside = any(a <= quarter < b for a, b in spans)
        bridged = [s for s in spans if s[1] <= quarter], [s for s in spans if s[0] > quarter]
        if inside:
            assert any(a <= quarter < b for a, b in got)
        elif any(a <= quarter < b for a, b in got):
            assert min(s[0] for s in bridged[1]) - max(s[1] for s in bridged[0]) <= gap


def test_windows_by_hand():
    assert windows(np.arange(5.0), 5, (2,)) == [
        (0, 5, 0, 5),
        (0, 2, 0, 2),
        (1, 3, 1, 3),
        (2, 4, 2, 4),
        (3, 5, 3, 5),
    ]
    # Halves of a window of 3 s are no multiple of the step, and 7 s are none of the window.
    assert [w[:2] for w in windows(np.arange(7.0), 7, (3,), overlap=0.0)] == [
        (0, 7),
        (0, 3),
        (3, 6),
        (4, 7),
    ]
    # Sampling that jitters below the grid still gives the frames that were meant for it.
    assert [w[:2] for w in windows([0, 0.97, 1.97, 2.97], 4, (2,))] == [
        (0, 4),
        (0, 2),
        (1, 3),
        (2, 4),
    ]
    # A length as long as the video is not shorter than it.
    assert windows([0.0, 1.0], 2.0, (2, 4)) == [(0, 2, 0.0, 2.0)]
    # Windows shorter than the sampling step are single frames.
    assert windows([0.0, 5.0], 10.0, (2,)) == [
        (0, 2, 0.0, 10.0),
        (0, 1, 0.0, 5.0),
        (1, 2, 5.0, 10.0),
    ]
    assert windows([0.0], 0.0) == [(0, 1, 0.0, 0.0)]


def test_windows_do_not_depend_on_rounding():
    tenths = [k * 0.1 for k in range(60)]
    counts = {last - first for first, last, _, _ in windows(tenths, 6.0, (0.3,), overlap=0.0)[1:]}
    assert counts == {3}


@given(
    videos(),
    st.lists(st.sampled_from([0.25, 0.5, 1, 2, 3, 4, 8, 16]), max_size=4),
    st.sampled_from([0, 0.5, 0.75]),
)
@settings(deadline=None)
def test_windows_invariants(video, lengths, overlap):
    timestamps, duration = video
    edges = [*timestamps.tolist(), duration]
    got = windows(timestamps, duration, lengths, overlap)
    assert got[0] == (0, len(timestamps), timestamps[0], duration)
    assert len({w[:2] for w in got}) == len(got)
    for first, last, start, end in got:
        assert 0 <= first < last <= len(timestamps)
        assert (
            start == edges[first] < end == edges[last]
            if last < len(timestamps)
            else end == duration
        )
    longest_frame = max(np.diff(edges))
    for length in lengths:
        scale = windows(timestamps, duration, (length,), overlap)
        assert set(scale) <= set(got)
        assert length < duration - timestamps[0] or len(scale) == 1
        for first, last, start, end in scale[1:]:
            assert abs(end - start - length) <= longest_frame + 1e-6 or last - first == 1
        # A longer window may come out as the whole video, which is listed but once.
        if length + longest_frame < duration - timestamps[0]:
            covered = {k for first, last, _, _ in scale[1:] for k in range(first, last)}
            assert covered >= {k for k in range(len(timestamps)) if edges[k + 1] > edges[k]}
            assert max(w[1] for w in scale[1:]) == len(timestamps)


def naive_windows(timestamps, duration, lengths, overlap):
    edges, result = [*timestamps.tolist(), duration], [(0, len(timestamps))]
    for length in lengths:
        start = timestamps[0]
        while length < duration - timestamps[0]:
            start = min(start, duration - length)
            # Of frames with one timestamp, a window takes all or none.
            first, last = (
                edges.index(min(edges, key=lambda edge: abs(edge - bound)))
                for bound in (start, start + length)
            )
            last = len(timestamps) if edges[last] == duration else last
            if edges[first] < edges[last] and (first, last) not in result:
                result.append((first, last))
            if start == duration - length:
                break
            start += length * (1 - overlap)
    return [(first, last, edges[first], edges[last]) for first, last in result]


@given(
    videos(quarters=True),
    st.lists(st.sampled_from([0.25, 0.5, 1, 2, 3, 8]), max_size=4),
    st.sampled_from([0, 0.5]),
)
@settings(deadline=None)
def test_windows_match_naive_loop(video, lengths, overlap):
    assert windows(*video, lengths, overlap) == naive_windows(*video, lengths, overlap)


def test_windows_of_ten_thousand_frames():
    # 4999 + 2499 + 1249 + 624 + 312 + 156 + 78 windows of 2 to 128 s every 1 to 64 s, and the video.
    assert len(windows(np.arange(10_000) / 2, 5_000.0)) == 9918


def naive_frames_in(timestamps, duration, span):
    ends = [*timestamps[1:], duration]
    shown = [k for k in range(len(timestamps)) if ends[k] > timestamps[k]]
    seen = [k for k in shown if max(timestamps[k], span[0]) < min(ends[k], span[1])]
    if not seen:
        inside = [k for k in shown if timestamps[k] <= span[0] < ends[k]]
        seen = inside or [shown[0] if span[0] < timestamps[0] else shown[-1]]
    return min(seen), max(seen) + 1


def test_frames_in_by_hand():
    assert frames_in([0, 1, 2, 3], 4, (1, 3)) == (1, 3)
    assert frames_in([0, 1, 2, 3], 4, (0.9, 3.1)) == (0, 4)
    assert frames_in([0, 1, 2, 3], 4, (2.2, 2.3)) == (2, 3)
    assert frames_in([0, 1, 2, 3], 4, (2, 2)) == (2, 3)
    assert frames_in([1, 2], 3, (0, 0.5)) == (0, 1)
    assert frames_in([1, 2], 3, (7, 9)) == (1, 2)


@given(videos(quarters=True), SPAN)
@settings(deadline=None, max_examples=300)
def test_frames_in_matches_naive_loop(video, span):
    assert frames_in(*video, span) == naive_frames_in(*video, span)


@given(videos(), st.tuples(st.floats(0, 60), st.floats(0, 60)).map(sorted))
@settings(deadline=None)
def test_frames_in_matches_naive_loop_for_any_floats(video, span):
    assert frames_in(*video, span) == naive_frames_in(*video, span)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: iou([(0, 1, 2)], [(0, 1)]), ShapeError, "shape (1, 3)"),
        (lambda: iou([(0, 1)], [(0, 1), (3, 2)]), UsageError, "span 1 is [3.0, 2.0]"),
        (lambda: iou([(0, np.nan)], [(0, 1)]), UsageError, "finite"),
        (lambda: merge([(0, np.inf)]), UsageError, "finite"),
        (lambda: merge([(0, 1)], gap=-1), UsageError, "-1"),
        (lambda: nms([(0, 1)], [1, 2], 0.5), ShapeError, "1 spans need as many scores"),
        (lambda: nms([(0, 1)], [np.nan], 0.5), UsageError, "numbers"),
        (lambda: nms([(0, 1)], [1], 1.5), UsageError, "1.5"),
        (lambda: windows([], 1.0), ShapeError, "at least one timestamp"),
        (lambda: windows([0, 2, 1], 3.0), UsageError, "must not decrease"),
        (lambda: windows([0, 2], 1.0), UsageError, "end of the video at 1.0 s"),
        (lambda: windows([0, np.nan], 1.0), UsageError, "must not decrease"),
        (lambda: windows([0], np.nan), UsageError, "nan"),
        (lambda: windows([0], 9.0, (2, 0)), UsageError, "positive lengths"),
        (lambda: windows([0], 9.0, overlap=1.0), UsageError, "1.0"),
        (lambda: frames_in([0], 9.0, (2, 1)), UsageError, "[2.0, 1.0]"),
        (lambda: frames_in([[0]], 9.0, (1, 2)), ShapeError, "(1, 1)"),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)


def arranged(timestamps, duration, lengths, overlap):
    """Windows as they were first defined: one for every step of the grid, however many there are."""
    begin, edges = timestamps[0], np.append(timestamps, duration)
    result = [(begin, duration)]
    for length in lengths:
        if length < duration - begin:
            starts = np.append(
                np.arange(begin, duration - length, length * (1 - overlap)), duration - length
            )
            for start in starts:
                near = [
                    edges[np.argmin(np.abs(edges - t) - (edges <= t) * 1e-9)]
                    for t in (start, start + length)
                ]
                result.append(tuple(near)) if near[1] > near[0] else None
    return list(dict.fromkeys(result))


@pytest.mark.parametrize("seed", range(12))
def test_windows_of_sparse_frames_are_on_a_regular_grid(seed):
    rng = np.random.default_rng(seed)
    times = np.sort(
        np.concatenate([rng.random(4) * 10, 500 + rng.random(3) * 5, rng.random(2) * 900])
    )
    duration = times[-1] + rng.random()
    overlap, lengths = rng.choice([0.0, 0.5, 0.8]), (1.0, 2.5, 40.0)
    result = windows(times, duration, lengths, overlap)
    assert [w[2:] for w in result] == arranged(times, duration, lengths, overlap)


@pytest.mark.parametrize("last", [1e6, 1e9, 1e12])
@pytest.mark.parametrize("between", [[], [1.0, 2.0], [0.4e6, 0.4e6 + 0.5]], ids=str)
def test_number_of_windows_is_bounded_by_frames(last, between):
    """1.4 kB of video with a frame at 10^9 s stopped `vla index` and `vla train`: 320 GiB of windows."""
    times = np.array([0.0, *between, last])
    tracemalloc.start()
    result = windows(times, last + 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(result) <= 4 * len(times) and peak < 1_000_000
    assert result[0][2:] == (0.0, last + 1) and any(w[2:] == (last, last + 1) for w in result)
