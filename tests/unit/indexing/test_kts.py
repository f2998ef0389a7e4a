"""Where videos are cut: what trying every cut finds, planted changes, and what must hold for any video."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.batches.corpus import sliding_windows
from vla.errors import ShapeError, UsageError
from vla.features import FrameFeatures
from vla.indexing import kts
from vla.indexing.kts import content_segments
from vla.indexing.segments import segment_by_kts


def leaves(found):
    """The windows that hold no other one."""
    pairs = [w[:2] for w in found]
    return sorted(
        p for p in pairs if not any(q != p and p[0] <= q[0] and q[1] <= p[1] for q in pairs)
    )


def unit(rows):
    return rows / np.sqrt((rows**2).sum(1, keepdims=True))


def spread(frames, seconds, first, last):
    """Of the frames about their mean, each for as long as it is shown; in plain loops."""
    weights = seconds[first:last]
    mean = sum(w * f for w, f in zip(weights, frames[first:last], strict=True)) / sum(weights)
    return float(
        sum(w * ((f - mean) @ (f - mean)) for w, f in zip(weights, frames[first:last], strict=True))
    )


def naive_price(frames, edges):
    apart, lags = [], []
    for i in range(len(frames)):
        later = [j for j in range(len(frames)) if edges[j] >= edges[i] + 0.5 - 1e-9]
        if later:
            apart.append(((frames[later[0]] - frames[i]) ** 2).sum() / 2)
            lags.append(edges[later[0]] - edges[i])
    return kts.PENALTY * max(np.median(apart), 1e-4) * np.median(lags)


def scenes(lengths, seed, noise=0.05, dim=16, hertz=2.0):
    """Frames that show one thing for so many frames, then another."""
    rng = np.random.default_rng(seed)
    shown = np.repeat(unit(rng.standard_normal((len(lengths), dim))), lengths, 0)
    values = shown + noise * rng.standard_normal(shown.shape) / np.sqrt(dim)
    times = np.arange(len(values)) / hertz
    return values, times, len(values) / hertz


@pytest.mark.parametrize("seed", range(12))
def test_the_cuts_are_the_cheapest_of_all(seed, monkeypatch):
    monkeypatch.setattr(kts, "PENALTY", [0.3, 1.0, 3.0][seed % 3])
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 12))
    values = rng.standard_normal((count, 4)).cumsum(0)
    edges = np.append(0.0, np.cumsum(rng.choice([0.25, 0.5, 0.5, 1.0, 2.0], count)))
    frames, seconds = unit(values), np.diff(edges)
    cost = naive_price(frames, edges)
    every = (
        (0, *inner, count) for many in range(count) for inner in combinations(range(1, count), many)
    )
    best = min(
        every, key=lambda e: sum(spread(frames, seconds, a, b) + cost for a, b in pairwise(e))
    )
    assert leaves(content_segments(values, edges[:-1], edges[-1])) == list(pairwise(best))


@pytest.mark.parametrize("seed", range(8))
def test_unions_are_of_the_two_neighbours_most_alike(seed):
    lengths = np.random.default_rng(seed).integers(3, 12, 9)
    values, times, duration = scenes(lengths, seed)
    frames, seconds = unit(values), np.diff(np.append(times, duration))
    found = content_segments(values, times, duration)
    left = leaves(found)
    assert len(left) == len(lengths)
    wanted = set(left)
    while len(left) > 1:
        dearer = [
            spread(frames, seconds, a[0], b[1])
            - spread(frames, seconds, *a)
            - spread(frames, seconds, *b)
            for a, b in pairwise(left)
        ]
        place = int(np.argmin(dearer))
        left[place : place + 2] = [(left[place][0], left[place + 1][1])]
        wanted.add(left[place])
    assert {w[:2] for w in found} == wanted and len(found) == 2 * len(lengths) - 1


@pytest.mark.parametrize(
    "lengths", [[2, 4, 40, 6, 3, 90, 2], [300, 2, 700, 5, 1000], [64, 64, 64], [1, 9, 1, 9]]
)
def test_planted_changes_are_found_at_any_length(lengths):
    """Also beyond the reach of one segment (256 frames), which is put together of several."""
    values, times, duration = scenes(lengths, 3)
    ends = np.cumsum([0, *lengths]).tolist()
    found = content_segments(values, times, duration)
    assert leaves(found) == list(pairwise(ends)) and len(found) == 2 * len(lengths) - 1
    assert all(
        start == times[a] and end == np.append(times, duration)[b] for a, b, start, end in found
    )


@pytest.mark.parametrize("seed", range(4))
def test_frames_that_are_told_of_more_often_move_no_cut(seed):
    values, times, duration = scenes([5, 9, 3, 30], seed)
    dense = np.repeat(values, 5, 0)
    spans = {w[2:] for w in content_segments(values, times, duration)}
    assert {
        tuple(np.round(w[2:], 6))
        for w in content_segments(dense, np.arange(len(dense)) / 10, duration)
    } == spans


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_what_holds_for_any_video(seed, count):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 3)) * (rng.random((count, 1)) > 0.2)
    values[rng.random(count) < 0.3] = 1.0
    times = np.cumsum(rng.choice([0.0, 0.25, 0.5, 4.0], count))
    duration = float(times[-1] + rng.choice([0.0, 0.5]))
    found = content_segments(values, times, duration)
    assert (0, count, times[0], duration) in found
    assert len(found) == len({w[:2] for w in found}) <= 2 * len(leaves(found)) - 1
    assert all(
        0 <= a < b <= count and times[0] <= start <= end <= duration for a, b, start, end in found
    )
    together = leaves(found)
    assert (
        together[0][0] == 0
        and together[-1][1] == count
        and all(a[1] == b[0] for a, b in pairwise(together))
    )
    later = content_segments(
        values * np.exp2(rng.integers(-3, 3, (count, 1))), times + 64, duration + 64
    )
    assert later == [(a, b, start + 64, end + 64) for a, b, start, end in found]
    cut = segment_by_kts(FrameFeatures("v", values.astype(np.float16), times, duration))
    assert cut[2][0].tolist() == [times[0], duration] and len(
        set(zip(cut[0], cut[1], strict=True))
    ) == len(cut[0])


@pytest.mark.parametrize("count", [1, 2, 50, 900])
def test_a_video_that_does_not_change_is_one_segment(count):
    rng = np.random.default_rng(count)
    picture = rng.standard_normal(64)
    still = np.tile(picture, (count, 1)).astype(np.float16)
    assert content_segments(still, np.arange(count) / 2, count / 2) == [(0, count, 0.0, count / 2)]
    # Nor does rounding cut it.
    rounded = (still * rng.uniform(0.99, 1.01, (count, 1))).astype(np.float16)
    assert content_segments(rounded, np.arange(count) / 2, count / 2) == [
        (0, count, 0.0, count / 2)
    ]


def test_noise_alone_is_not_cut():
    for seed in range(5):
        values, times, duration = scenes([400], seed, noise=0.6)
        assert len(content_segments(values, times, duration)) == 1


def test_the_whole_comes_first_and_nothing_twice():
    values, times, duration = scenes([4, 6, 8], 0)
    video = FrameFeatures("v", values.astype(np.float16), times, duration)
    first, last, spans = segment_by_kts(video)
    assert (first[0], last[0]) == (0, 18) and (sliding_windows(video)[2][0] == spans[0]).all()
    assert (
        sorted(zip(first.tolist(), last.tolist(), strict=True))[:2] == [(0, 4), (0, 10)]
        or len(spans) == 5
    )


@pytest.mark.parametrize(
    ("values", "times", "duration", "error"),
    [
        (np.ones((0, 3)), [], 1.0, ShapeError),
        (np.ones((2, 3)), [0.0], 1.0, ShapeError),
        (np.ones(2), [0.0, 1.0], 2.0, ShapeError),
        (np.ones((2, 3)), [1.0, 0.0], 2.0, UsageError),
        (np.ones((1, 3)), [3.0], 1.0, UsageError),
        (np.ones((1, 3)), [0.0], np.nan, UsageError),
    ],
)
def test_what_is_no_video(values, times, duration, error):
    with pytest.raises(error):
        content_segments(values, times, duration)
