"""Rows of a video in an index: the whole video first, windows of 4 s and more, and frames."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.features import FrameFeatures
from vla.indexing.segments import windows_and_frames


def video(times, duration):
    return FrameFeatures("v", np.zeros((len(times), 2), np.float16), np.array(times), duration)


def segments_of(times, duration):
    first, last, spans = windows_and_frames(video(times, duration))
    return list(zip(first.tolist(), last.tolist(), map(tuple, spans.tolist()), strict=True))


def test_twelve_seconds_by_hand():
    """Three, then two windows of 4 and 8 s that overlap by half, and 24 frames."""
    rows = segments_of(np.arange(24) / 2, 12.0)
    whole, *rest = [span for *_, span in rows]
    assert whole == (0.0, 12.0)
    windows = [(a, a + 4.0) for a in (0.0, 2.0, 4.0, 6.0, 8.0)] + [(0.0, 8.0), (4.0, 12.0)]
    frames = [(t / 2, t / 2 + 0.5) for t in range(24)]
    assert rest == [*windows, *frames]
    assert [row[:2] for row in rows] == [(int(2 * a), int(2 * b)) for *_, (a, b) in rows]


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (2, 3), (8, 9), (9, 12)])
def test_short_videos_have_no_segment_twice(frames, expected):
    rows = segments_of(np.arange(frames) / 2, frames / 2)
    assert len(rows) == len({row[:2] for row in rows}) == expected
    assert rows[0] == (0, frames, (0.0, frames / 2))


@pytest.mark.parametrize("rate", [0.1, 1, 2, 8, 30])
def test_the_number_of_rows_does_not_grow_with_the_frame_rate(rate):
    duration = 60.0
    times = np.arange(int(duration * rate)) / rate
    rows = segments_of(times, duration)
    frames = [row for row in rows if row[2][1] - row[2][0] < 1.0 or rate <= 1]
    assert len(rows) <= 120 + 1 + 2 * sum(60 // length for length in (4, 8, 16, 32)) + 4
    if rate > 2:
        assert all(b - a == pytest.approx(0.5, abs=1 / rate) for *_, (a, b) in frames)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.04, 0.25, 0.5, 0.5, 0.5, 3.0]), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.25, 0.5, 5.0]),
)
def test_segments_cover_all_frames_with_time_on_screen(steps, tail):
    times = np.cumsum(steps)
    duration = float(times[-1] + tail)
    rows = segments_of(times, duration)
    edges = [*times.tolist(), duration]
    assert rows[0] == (0, len(times), (edges[0], duration))
    for first, last, (start, end) in rows:
        assert 0 <= first < last <= len(times)
        assert start in edges and end in edges and (start < end or duration == edges[0])
    seconds = [b - a for a, b in itertools.pairwise(edges)]
    visible = {i for i, length in enumerate(seconds) if length > 0}
    alone = {
        i
        for f, n, _ in rows
        for i in visible & {*range(f, n)}
        if len(visible & {*range(f, n)}) == 1
    }
    assert {i for i in visible if seconds[i] >= 1.0} <= alone
    short = [{*range(f, n)} for f, n, (a, b) in rows if b - a <= 0.5 + max(seconds) + 1e-9]
    assert visible <= set().union(*short)
