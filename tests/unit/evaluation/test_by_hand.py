"""Metrics computed by hand, for rules that a naive loop would share."""

import numpy as np
import pytest

from vla.metrics.average_precision import average_precisions
from vla.metrics.bootstrap import estimate


def test_equal_ious_match_last_span():
    """The official rule of QVHighlights. [0, 2] overlaps [0, 1] and [1, 2] by half each and takes the second, so that
    the next prediction, [1, 2], finds its own span gone and [0, 1] does not reach .5: half of the recall at precision 1."""
    predictions = [np.array([[0.0, 2.0, 0.9], [1.0, 2.0, 0.8]])]
    assert average_precisions(predictions, [np.array([[0.0, 1.0], [1.0, 2.0]])], (0.5,))[
        0, 0
    ] == pytest.approx(0.5)
    # Listed the other way round, [0, 1] is taken, and both are right.
    assert average_precisions(predictions, [np.array([[1.0, 2.0], [0.0, 1.0]])], (0.5,))[
        0, 0
    ] == pytest.approx(1.0)


def test_cluster_bootstrap_with_unequal_videos():
    """One video of five hits and one of a single miss. Drawn twice with replacement there are four equal outcomes:
    both the first (1), both the second (0), one of each, twice (5/6). Their quartiles are 0, 5/6 and 1."""
    values, clusters = np.array([1.0, 1, 1, 1, 1, 0]), np.array([7, 7, 7, 7, 7, 3])
    found = estimate(values, confidence=0.98, resamples=4000, clusters=clusters)
    assert (found.value, found.n, found.clusters) == (pytest.approx(5 / 6), 6, 2)
    assert (found.low, found.high) == (0.0, 1.0)
    # Between the quarter of draws without a hit and the quarter without a miss lies the mean of one of each.
    inner = estimate(values, confidence=0.4, resamples=4000, clusters=clusters)
    assert (inner.low, inner.high) == (pytest.approx(5 / 6), pytest.approx(5 / 6))


def test_paired_difference_with_unequal_videos():
    ours, theirs = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 1])
    found = estimate(ours - theirs, confidence=0.98, resamples=4000, clusters=[0, 0, 0, 1])
    assert (found.value, found.low, found.high) == (pytest.approx(0.5), -1.0, 1.0)


def test_median_interval_with_unequal_videos():
    """Ranks 1, 1, 1 of one video and 9 of another: the median is 1, 9, or, of one of each, 1; 3/4 of draws have 1."""
    ranks, clusters = np.array([1.0, 1, 1, 9]), [0, 0, 0, 1]
    inner = estimate(ranks, 0.4, 4000, clusters=clusters, median=True)
    assert (inner.value, inner.interval) == (1.0, (1.0, 1.0))
    outer = estimate(ranks, 0.98, 4000, clusters=clusters, median=True)
    assert outer.interval == (1.0, 9.0)
