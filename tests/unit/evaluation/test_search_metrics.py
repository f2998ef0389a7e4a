"""Metrics of search results match a naive loop."""

import numpy as np
import pytest

from vla.batches.corpus import Query
from vla.evaluation.search_metrics import video_baselines, video_measures, videos_of


def query(video):
    return Query("q", ("q",), ("q",), video, np.zeros((0, 2)))


def test_videos_are_in_order_of_first_moment():
    moments = np.array(
        [(3, 0, 1, 0.9), (1, 2, 3, 0.8), (3, 5, 6, 0.7), (0, 0, 1, 0.6), (1, 4, 5, 0.5)]
    )
    assert videos_of(moments).tolist() == [[3, 0, 1, 0.9], [1, 2, 3, 0.8], [0, 0, 1, 0.6]]
    assert videos_of(np.zeros((0, 4))).shape == (0, 4)


def test_recalls_match_naive_loop():
    rng = np.random.default_rng(0)
    videos, queries = 150, [query(int(v)) for v in rng.integers(0, 150, 60)]
    lists = []
    for _ in queries:
        rows = rng.integers(0, videos, int(rng.integers(0, 400)))
        lists.append(
            np.column_stack([rows, rows * 0, rows * 0 + 1, -np.arange(len(rows))])
            .astype(float)
            .reshape(-1, 4)
        )
    wanted = {k: 0 for k in (1, 5, 10, 100)}
    for q, found in zip(queries, lists, strict=True):
        order = list(dict.fromkeys(int(row[0]) for row in found))
        for k in wanted:
            wanted[k] += q.video in order[:k]
    found = {name: v.value for name, v in video_measures(queries, lists).items()}
    assert found == pytest.approx(
        {
            **{f"R@{k}": 100 * n / len(queries) for k, n in wanted.items()},
            "SumR": 100 * sum(wanted.values()) / len(queries),
        }
    )


def test_chance_by_number_of_videos():
    floor = video_baselines(40).values["chance"]
    assert floor == pytest.approx(
        {"R@1": 2.5, "R@5": 12.5, "R@10": 25.0, "R@100": 100.0, "SumR": 140.0}
    )
