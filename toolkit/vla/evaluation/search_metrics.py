"""Metrics of search results: videos by their first moment, and moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vla.batches.corpus import Query
from vla.evaluation.results import BaselineScores, PerQueryScores, ScoreTable
from vla.metrics.baselines import retrieval_chance
from vla.metrics.corpus_moments import RECALLS, first_hit_ranks

SEARCH_SUFFIX = "by search"
"""Suffix of tasks that score the results of `vla search`."""


def describe_retriever(bank: str) -> str:
    """Describe the search behind tasks `by search` to the user.

    Args:
        bank: description of the query bank that the index is calibrated with.
    """
    return (
        "results of a search in a workspace of these videos alone: moments are located by the "
        "similarity curve of a video or, if trained, a moment head, with a duration prior from at "
        "least 50 training moments; "
        f"the index is calibrated with {bank}, excluding the queries evaluated here"
    )


class Retriever(Protocol):
    """Search engine over the videos of a corpus."""

    def everywhere(self, queries: Sequence[Query], per_video: int | None) -> list[np.ndarray]:
        """Search all videos.

        Args:
            queries: captions.
            per_video: maximum number of moments of one video; None as for a search.

        Returns:
            For each query `(N, 4)`: row of the video, start, end (seconds), score; best first.
        """

    def in_own(self, queries: Sequence[Query]) -> list[np.ndarray]:
        """Search the own video of each query.

        Returns:
            For each query `(N, 3)`: start, end (seconds), score; best first.
        """


def videos_of(moments: np.ndarray) -> np.ndarray:
    """Return `(V, 4)` the first moment of each video in a result `(N, 4)`, in the same order."""
    _, first = np.unique(moments[:, 0], return_index=True)
    videos: np.ndarray = moments[np.sort(first)]
    return videos


def video_measures(queries: Sequence[Query], results: Sequence[np.ndarray]) -> ScoreTable:
    """Compute `R@1` to `R@100` in percent, and their sum `SumR`, of the video of each query.

    Args:
        queries: captions.
        results: `(N, 4)` search results of each.
    """
    owner = np.array([q.video for q in queries], np.int64)
    # Times do not matter for the task VR: any span will do.
    anywhere = [np.array([[0.0, 1.0]])] * len(queries)
    rank = first_hit_ranks([videos_of(table) for table in results], owner, anywhere, "VR")[:, 0]
    table = {f"R@{k}": PerQueryScores(100.0 * (rank <= k), owner) for k in RECALLS}
    return {
        **table,
        "SumR": PerQueryScores(np.sum([v.by_query for v in table.values()], axis=0), owner),
    }


def video_baselines(num_videos: int) -> BaselineScores:
    """Score chance: the videos in random order."""
    scores = retrieval_chance(num_videos, 1, RECALLS)
    chance = {f"R@{k}": scores[f"R@{k}"] for k in RECALLS}
    return BaselineScores({"chance": {**chance, "SumR": sum(chance.values())}})
