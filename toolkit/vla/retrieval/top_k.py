"""The k best items of groups whose scores are bounded from above: Fagin's threshold algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class HasScore(Protocol):
    """An item with a score."""

    @property
    def score(self) -> float:
        """Higher is better."""


T = TypeVar("T", bound=HasScore)
G = TypeVar("G")


class BoundedTopK(Generic[T]):
    """Container of the k best items pushed, best first; of equal scores, those pushed first.

    Args:
        k: at least 1.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.items: list[T] = []

    def push(self, items: Iterable[T]) -> None:
        """Add items, and drop what is not among the k best."""
        self.items = sorted([*self.items, *items], key=lambda item: -item.score)[: self.k]

    def is_done(self, upper_bound: float) -> bool:
        """Return whether no item that scores at most `upper_bound`, pushed now, would be kept."""
        return len(self.items) == self.k and self.items[-1].score >= upper_bound


@dataclass(frozen=True)
class TopK(Generic[T]):
    """A result of `top_k_with_bounds`.

    Attributes:
        items: at most k, best first.
        is_exact: whether an unlisted group could change none of them.
    """

    items: list[T]
    is_exact: bool


def top_k_with_bounds(
    upper_bounds: Sequence[tuple[G, float]],
    score_group: Callable[[G], Iterable[T]],
    k: int,
    *,
    unlisted_bound: float = -math.inf,
    max_groups: int | None = None,
) -> TopK[T]:
    """Return the k best items of all groups, scoring no more groups than needed.

    Groups are scored in the order given until the k-th best item reaches the upper bound of the
    next group: that group and all after it can add nothing (Fagin, Lotem and Naor 2003). Scoring
    also stops if an unlisted group could be better than the next: more groups have to be listed
    first.

    Args:
        upper_bounds: groups with a score that no item of theirs exceeds; bounds descend.
        score_group: returns the items of a group.
        k: at least 1.
        unlisted_bound: upper bound of the groups that are not listed; minus infinity if all are.
        max_groups: maximum number of groups to score; the result then counts as exact. None for no
            limit.
    """
    top = BoundedTopK[T](k)
    for number, (group, upper_bound) in enumerate(upper_bounds):
        if number == max_groups:
            return TopK(top.items, True)
        if top.is_done(upper_bound):
            break
        if upper_bound < unlisted_bound:
            return TopK(top.items, False)
        top.push(score_group(group))
    return TopK(top.items, unlisted_bound == -math.inf or top.is_done(unlisted_bound))
