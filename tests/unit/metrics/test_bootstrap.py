"""Intervals against theory, naive loops, and their coverage."""

import numpy as np
import pytest

from vla.errors import ShapeError, UsageError
from vla.metrics import bootstrap
from vla.metrics.bootstrap import estimate, interval, median_interval


def test_interval_contains_mean_and_narrows():
    hits = (np.random.default_rng(0).random(400) < 0.3).astype(float)
    low, high = interval(hits)
    error = np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    assert low == pytest.approx(hits.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(hits.mean() + 1.96 * error, abs=0.2 * error)
    narrow = interval(hits, confidence=0.5)
    assert low < narrow[0] < hits.mean() < narrow[1] < high
    assert interval(hits) == (low, high)
    assert interval(hits, seed=1) != (low, high)
    assert interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_cluster_resampling_widens_interval():
    """Ten queries a video that all succeed or all fail are as good as one query a video."""
    videos = np.repeat(np.arange(60), 10)
    hits = (np.random.default_rng(1).random(60) < 0.4).astype(float)
    together, alone = estimate(hits[videos], clusters=videos), estimate(hits)
    assert (together.mean, together.n, together.clusters) == (pytest.approx(alone.mean), 600, 60)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    careless = estimate(hits[videos])
    assert together.high - together.low > 2.5 * (careless.high - careless.low)
    names = np.array([f"video{v}" for v in videos])
    assert estimate(hits[videos], clusters=names).clusters == 60
    assert "of 60 videos" in together.percent()


def test_clusters_are_weighted_by_size():
    values, videos = np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 9])
    draw = np.random.default_rng(0)
    means = []
    for row in draw.integers(2, size=(500, 2)):
        picked = [value for v in row for value in ([1.0] * 3 if v == 0 else [0.0])]
        means.append(sum(picked) / len(picked))
    got = interval(values, resamples=500, clusters=videos)
    assert got == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_paired_difference_has_narrower_interval():
    draw = np.random.default_rng(2)
    difficulty = draw.random(500)
    theirs, ours = (difficulty < 0.40).astype(float), (difficulty < 0.44).astype(float)
    got = estimate(ours - theirs)
    assert got.mean == pytest.approx(ours.mean() - theirs.mean())
    assert 0 < got.low < got.mean < got.high
    assert interval(ours)[0] < interval(theirs)[1]  # which alone would say nothing
    back = estimate(theirs - ours)
    assert (back.mean, back.low, back.high) == pytest.approx(
        (-got.mean, -got.high, -got.low), abs=0.004
    )
    same = estimate(ours - ours)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_block_size_does_not_change_results(monkeypatch):
    values, videos = np.random.default_rng(3).random(40), np.arange(40) // 3
    expected = interval(values, resamples=100), interval(values, resamples=100, clusters=videos)
    monkeypatch.setattr(bootstrap, "_BLOCK", 200)
    assert (
        interval(values, resamples=100),
        interval(values, resamples=100, clusters=videos),
    ) == expected


def test_percent_format_includes_sample_size():
    hits = np.array([1.0] * 412 + [0.0] * 588)
    text = estimate(hits).percent()
    assert text.startswith("41.2 [3") and text.endswith("], n = 1,000")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: interval(np.array([])), UsageError, "at least one"),
        (lambda: interval(np.array([np.nan])), UsageError, "finite"),
        (lambda: interval(np.zeros((2, 2))), ShapeError, "(2, 2)"),
        (lambda: interval(np.zeros(2), confidence=95), UsageError, "95"),
        (lambda: interval(np.zeros(2), clusters=[1]), ShapeError, "(1,)"),
        (lambda: median_interval(np.zeros(2), resamples=0), UsageError, "resamples"),
        (lambda: median_interval(np.zeros(2), clusters=[1]), ShapeError, "(1,)"),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
