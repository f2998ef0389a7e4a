"""The top k with bounds against a sort of everything, with ties and loose bounds; and that it scores no more than it must."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.retrieval.top_k import BoundedTopK, top_k_with_bounds

SCORES = st.integers(-3, 3).map(float)  # few values: many ties
GROUPS = st.lists(st.tuples(st.lists(SCORES, max_size=4), st.integers(0, 2)), max_size=12)


@dataclass(frozen=True)
class Item:
    group: int
    place: int
    score: float


def made(groups):
    """Items by group, and bounds that descend; each at least as high as the best item of its group, or some higher."""
    items = {g: [Item(g, i, s) for i, s in enumerate(scores)] for g, (scores, _) in enumerate(groups)}
    bounds = [(g, max([i.score for i in items[g]], default=-3.0) + loose) for g, (_, loose) in enumerate(groups)]
    return items, sorted(bounds, key=lambda bound: (-bound[1], bound[0]))


def brute_force(items, bounds, k):
    """All items in the order of their groups; Python's sort keeps that of equal ones."""
    return sorted((i for g, _ in bounds for i in items[g]), key=lambda i: -i.score)[:k]


@given(GROUPS, st.integers(1, 8))
def test_it_is_the_sort_of_everything(groups, k):
    items, bounds = made(groups)
    top = top_k_with_bounds(bounds, items.get, k)
    assert top.items == brute_force(items, bounds, k) and top.is_exact


@given(GROUPS, st.integers(1, 8), st.integers(0, 12))
def test_it_is_exact_only_if_no_unlisted_group_could_change_it(groups, k, listed):
    """Of a list that is cut off: where it calls itself exact, it is the sort of everything, whatever the others hold."""
    items, bounds = made(groups)
    unlisted = max((bound for _, bound in bounds[listed:]), default=-math.inf)
    top = top_k_with_bounds(bounds[:listed], items.get, k, unlisted_bound=unlisted)
    assert top.is_exact or listed < len(bounds)
    if top.is_exact:
        assert top.items == brute_force(items, bounds[:listed], k)
        assert [i.score for i in top.items] == [i.score for i in brute_force(items, bounds, k)]


@given(GROUPS, st.integers(1, 8))
def test_it_scores_no_group_that_it_need_not(groups, k):
    items, bounds = made(groups)
    scored = []
    top_k_with_bounds(bounds, lambda g: scored.append(g) or items[g], k)
    assert scored == [g for g, _ in bounds[: len(scored)]]
    best = brute_force(items, bounds, k)
    worst = best[-1].score if len(best) == k else -math.inf
    # Every group whose bound is above the k-th best has to be scored; none below it, and of those at it only the first few.
    assert {g for g, bound in bounds if bound > worst} <= set(scored)
    assert all(bound >= worst for g, bound in bounds if g in scored)


@given(GROUPS, st.integers(1, 8), st.integers(1, 12))
def test_of_a_limited_number_of_groups_the_others_do_not_count(groups, k, most):
    items, bounds = made(groups)
    top = top_k_with_bounds(bounds, items.get, k, max_groups=most)
    assert top.items == brute_force(items, bounds[:most], k) and top.is_exact


def test_it_stops_before_a_group_that_an_unlisted_one_could_surpass():
    scored = []
    top = top_k_with_bounds(
        [(0, 3.0), (1, 1.0)], lambda g: scored.append(g) or [Item(g, 0, 0.5)], 2, unlisted_bound=2.0
    )
    assert scored == [0] and not top.is_exact
    # With one item to find, what is found could still be surpassed.
    assert not top_k_with_bounds([(0, 3.0)], lambda g: [Item(g, 0, 1.9)], 1, unlisted_bound=2.0).is_exact
    assert top_k_with_bounds([(0, 3.0)], lambda g: [Item(g, 0, 2.0)], 1, unlisted_bound=2.0).is_exact


@given(st.lists(st.lists(SCORES, max_size=5), max_size=6), st.integers(1, 6), SCORES)
def test_what_is_pushed_is_kept_in_order(pushes, k, bound):
    top, every = BoundedTopK(k), []
    for n, scores in enumerate(pushes):
        some = [Item(n, i, s) for i, s in enumerate(scores)]
        top.push(some)
        every += some
    assert top.items == sorted(every, key=lambda i: -i.score)[:k]
    before = list(top.items)
    done = top.is_done(bound)
    top.push([Item(99, 0, bound)])
    assert done == (top.items == before)


@pytest.mark.parametrize("seed", range(3))
def test_many_groups_of_random_scores(seed):
    rng = np.random.default_rng(seed)
    items = {g: [Item(g, i, float(s)) for i, s in enumerate(rng.normal(rng.normal(), 1, 5))] for g in range(300)}
    bounds = [(g, max(i.score for i in items[g]) + rng.exponential(0.1)) for g in items]
    bounds.sort(key=lambda bound: -bound[1])
    scored = []
    top = top_k_with_bounds(bounds, lambda g: scored.append(g) or items[g], 10)
    assert top.items == brute_force(items, bounds, 10) and len(scored) < 60
