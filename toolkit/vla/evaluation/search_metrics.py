"""Figures of what a search lists, whoever searched: videos by the first of their moments, and moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vla.batches.corpus import Query
from vla.evaluation.results import BaselineScores, PerQueryScores, ScoreTable
from vla.metrics.baselines import retrieval_chance
from vla.metrics.corpus_moments import RECALLS, first_hit_ranks

SEARCH_SUFFIX = "by search"
"""Ends the names of tasks whose figures are of what `vla search` lists."""


def describe_retriever(compared: str) -> str:
    """For a person, what figures `by search` are of; `compared`: the queries that say what is popular."""
    return (
        "what a search lists where a workspace holds these videos alone: at most 3 moments of a video, by the curve of its "
        "frames and a head for moments, if there is one, about as long as moments that were trained on, if these are 50; "
        f"what is popular is lowered by {compared}, none of them asked here"
    )


class Retriever(Protocol):
    """Something that searches the videos of a corpus for captions, as a user's search does."""

    def everywhere(self, queries: Sequence[Query], per_video: int) -> list[np.ndarray]:
        """For each query `(N, 4)`: row of the video, start, end (seconds), score; best first, so many of a video at most."""

    def in_own(self, queries: Sequence[Query]) -> list[np.ndarray]:
        """For each query `(N, 3)` of its own video: start, end (seconds), score; best first."""


def videos_of(moments: np.ndarray) -> np.ndarray:
    """`(V, 4)` the best moment of each video in the list `(N, 4)`; the order stays."""
    _, first = np.unique(moments[:, 0], return_index=True)
    found: np.ndarray = moments[np.sort(first)]
    return found


def video_measures(queries: Sequence[Query], lists: Sequence[np.ndarray]) -> ScoreTable:
    """`R@1` to `R@100` in percent and their sum, `SumR`: how early a list has the video of its query. lists: `(N, 4)` each."""
    owner = np.array([q.video for q in queries], np.int64)
    # Where a caption is true is not asked: any span will do for the judge of places.
    anywhere = [np.array([[0.0, 1.0]])] * len(queries)
    rank = first_hit_ranks([videos_of(found) for found in lists], owner, anywhere, "VR")[:, 0]
    found = {f"R@{k}": PerQueryScores(100.0 * (rank <= k), owner) for k in RECALLS}
    return {**found, "SumR": PerQueryScores(np.sum([v.by_query for v in found.values()], axis=0), owner)}


def video_floors(videos: int) -> BaselineScores:
    """Chance: the videos in any order."""
    every = retrieval_chance(videos, 1, RECALLS)
    chance = {f"R@{k}": every[f"R@{k}"] for k in RECALLS}
    return BaselineScores({"chance": {**chance, "SumR": sum(chance.values())}})
