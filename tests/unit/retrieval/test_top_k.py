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


def make_items(groups):
    """Items by group, and bounds that descend; each at least as high as the best item of its group, or higher."""
    items = {
        g: [Item(g, i, s) for i, s in enumerate(scores)] for g, (scores, _) in enumerate(groups)
    }
    bounds = [
        (g, max([i.score for i in items[g]], default=-3.0) + loose)
        for g, (_, loose) in enumerate(groups)
    ]
    return items, sorted(bounds, key=lambda bound: (-bound[1], bound[0]))


def brute_force(items, bounds, k):
    """All items in the order of their groups; Python's sort keeps that of equal ones."""
    return sorted((i for g, _ in bounds for i in items[g]), key=lambda i: -i.score)[:k]


@given(GROUPS, st.integers(1, 8))
def test_matches_a_full_sort(groups, k):
    items, bounds = make_items(groups)
    top = top_k_with_bounds(bounds, items.get, k)
    assert top.items == brute_force(items, bounds, k) and top.is_exact


@given(GROUPS, st.integers(1, 8), st.integers(0, 12))
def test_is_exact_only_if_unlisted_groups_cannot_matter(groups, k, num_listed):
    """Of a list that is cut off: where it calls itself exact, it is the sort of everything, whatever the others hold."""
    items, bounds = make_items(groups)
    unlisted = max((bound for _, bound in bounds[num_listed:]), default=-math.inf)
    top = top_k_with_bounds(bounds[:num_listed], items.get, k, unlisted_bound=unlisted)
    assert top.is_exact or num_listed < len(bounds)
    if top.is_exact:
        assert top.items == brute_force(items, bounds[:num_listed], k)
        assert [i.score for i in top.items] == [i.score for i in brute_force(items, bounds, k)]


@given(GROUPS, st.integers(1, 8))
def test_scores_only_necessary_groups(groups, k):
    items, bounds = make_items(groups)
    scored = []
    top_k_with_bounds(bounds, lambda g: scored.append(g) or items[g], k)
    assert scored == [g for g, _ in bounds[: len(scored)]]
    best = brute_force(items, bounds, k)
    worst = best[-1].score if len(best) == k else -math.inf
    # Every group whose bound is above the k-th best has to be scored; none below it, and of those at it only the first few.
    assert {g for g, bound in bounds if bound > worst} <= set(scored)
    assert all(bound >= worst for g, bound in bounds if g in scored)


@given(GROUPS, st.integers(1, 8), st.integers(1, 12))
def test_limit_of_groups(groups, k, max_groups):
    items, bounds = make_items(groups)
    top = top_k_with_bounds(bounds, items.get, k, max_groups=max_groups)
    assert top.items == brute_force(items, bounds[:max_groups], k) and top.is_exact


def test_stops_before_a_group_below_an_unlisted_one():
    scored = []
    top = top_k_with_bounds(
        [(0, 3.0), (1, 1.0)], lambda g: scored.append(g) or [Item(g, 0, 0.5)], 2, unlisted_bound=2.0
    )
    assert scored == [0] and not top.is_exact
    # With one item to find, what is found could still be surpassed.
    assert not top_k_with_bounds(
        [(0, 3.0)], lambda g: [Item(g, 0, 1.9)], 1, unlisted_bound=2.0
    ).is_exact
    assert top_k_with_bounds(
        [(0, 3.0)], lambda g: [Item(g, 0, 2.0)], 1, unlisted_bound=2.0
    ).is_exact


@given(st.lists(st.lists(SCORES, max_size=5), max_size=6), st.integers(1, 6), SCORES)
def test_pushed_items_are_sorted(pushes, k, bound):
    top, all_items = BoundedTopK(k), []
    for n, scores in enumerate(pushes):
        new_items = [Item(n, i, s) for i, s in enumerate(scores)]
        top.push(new_items)
        all_items += new_items
    assert top.items == sorted(all_items, key=lambda i: -i.score)[:k]
    before = list(top.items)
    done = top.is_done(bound)
    top.push([Item(99, 0, bound)])
    assert done == (top.items == before)


@pytest.mark.parametrize("seed", range(3))
def test_many_groups_of_random_scores(seed):
    rng = np.random.default_rng(seed)
    items = {
        g: [Item(g, i, float(s)) for i, s in enumerate(rng.normal(rng.normal(), 1, 5))]
        for g in range(300)
    }
    bounds = [(g, max(i.score for i in items[g]) + rng.exponential(0.1)) for g in items]
    bounds.sort(key=lambda bound: -bound[1])
    scored = []
    top = top_k_with_bounds(bounds, lambda g: scored.append(g) or items[g], 10)
    assert top.items == brute_force(items, bounds, 10) and len(scored) < 60
