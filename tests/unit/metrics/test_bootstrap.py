"""Intervals against theory, naive loops, and their coverage."""

import numpy as np
import pytest

from vla.errors import ShapeError, UsageError
from vla.metrics import bootstrap
from vla.metrics.bootstrap import estimate


def test_interval_contains_mean_and_narrows():
    hits = (np.random.default_rng(0).random(400) < 0.3).astype(float)
    low, high = estimate(hits).interval
    error = np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    assert low == pytest.approx(hits.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(hits.mean() + 1.96 * error, abs=0.2 * error)
    narrow = estimate(hits, confidence=0.5).interval
    assert low < narrow[0] < hits.mean() < narrow[1] < high
    assert estimate(hits).interval == (low, high)
    assert estimate(hits, seed=1).interval != (low, high)
    assert estimate(np.full(7, 0.25)).interval == (0.25, 0.25)


def test_cluster_resampling_widens_interval():
    """Ten queries a video that all succeed or all fail are as good as one query a video."""
    videos = np.repeat(np.arange(60), 10)
    hits = (np.random.default_rng(1).random(60) < 0.4).astype(float)
    together, alone = estimate(hits[videos], clusters=videos), estimate(hits)
    assert (together.value, together.n, together.clusters) == (pytest.approx(alone.value), 600, 60)
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
    got = estimate(values, resamples=500, clusters=videos).interval
    assert got == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_paired_difference_has_narrower_interval():
    draw = np.random.default_rng(2)
    difficulty = draw.random(500)
    theirs, ours = (difficulty < 0.40).astype(float), (difficulty < 0.44).astype(float)
    got = estimate(ours - theirs)
    assert got.value == pytest.approx(ours.mean() - theirs.mean())
    assert 0 < got.low < got.value < got.high
    assert estimate(ours).low < estimate(theirs).high  # which alone would say nothing
    back = estimate(theirs - ours)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-got.value, -got.high, -got.low), abs=0.004
    )
    same = estimate(ours - ours)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_block_size_does_not_change_results(monkeypatch):
    values, videos = np.random.default_rng(3).random(40), np.arange(40) // 3
    expected = (
        estimate(values, resamples=100).interval,
        estimate(values, resamples=100, clusters=videos).interval,
    )
    monkeypatch.setattr(bootstrap, "_BLOCK", 200)
    assert (
        estimate(values, resamples=100).interval,
        estimate(values, resamples=100, clusters=videos).interval,
    ) == expected


def test_percent_format_includes_sample_size():
    hits = np.array([1.0] * 412 + [0.0] * 588)
    text = estimate(hits).percent()
    assert text.startswith("41.2 [3") and text.endswith("], n = 1,000")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: estimate(np.array([])), UsageError, "at least one"),
        (lambda: estimate(np.array([np.nan])), UsageError, "finite"),
        (lambda: estimate(np.zeros((2, 2))), ShapeError, "(2, 2)"),
        (lambda: estimate(np.zeros(2), confidence=95), UsageError, "95"),
        (lambda: estimate(np.zeros(2), clusters=[1]), ShapeError, "(1,)"),
        (lambda: estimate(np.zeros(2), resamples=0, median=True), UsageError, "resamples"),
        (lambda: estimate(np.zeros(2), clusters=[1], median=True), ShapeError, "(1,)"),
    ],
)
def test_rejects_invalid_arguments(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
