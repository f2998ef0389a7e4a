"""Batches of neighbours: a partition of the videos that depends on seed and epoch alone."""

import numpy as np
import pytest

from vla.batches.corpus import Corpus, Query
from vla.features import FrameFeatures
from vla.training import hard_negatives
from vla.training.hard_negatives import group_into_batches, nearest_videos


def corpus(kinds, dim=12, seed=0):
    """One video for each entry of `kinds`; videos of one kind look alike."""
    rng = np.random.default_rng(seed)
    looks = rng.standard_normal((max(kinds) + 1, dim))
    videos, queries, vectors = [], [], {}
    for i, kind in enumerate(kinds):
        values = (looks[kind] + 0.05 * rng.standard_normal((4, dim))).astype(np.float16)
        videos.append(FrameFeatures(f"v{i}", values, np.arange(4) / 2, 2.0))
        text = f"text {i}"
        vectors[text] = (looks[kind] + 0.05 * rng.standard_normal(dim)).astype(np.float32)
        queries.append(Query(text, (text,), (text,), i, np.zeros((0, 2))))
    return Corpus(videos, queries, vectors)


def naive_neighbours(data, rows, place):
    """Places in `rows`, nearest first, by loops."""

    def unit(v):
        return np.asarray(v, np.float64) / np.linalg.norm(v)

    def described(i):
        frames = np.mean([unit(f) for f in data.videos[i].values.astype(np.float64)], 0)
        texts = np.sum([unit(data.vectors[q.text]) for q in data.queries if q.video == i], 0)
        return np.concatenate([unit(frames), unit(texts)])

    mine = described(rows[place])
    score = {j: mine @ described(r) for j, r in enumerate(rows) if j != place}
    return sorted(score, key=lambda j: -score[j])


def test_nearest_videos_match_naive_search():
    data = corpus(np.random.default_rng(0).integers(0, 9, 40).tolist())
    rows = np.random.default_rng(1).permutation(40)[:33]
    actual = nearest_videos(data, rows, 0)
    assert actual.shape == (33, 24)
    for place in range(33):
        assert actual[place].tolist() == naive_neighbours(data, rows, place)[:24]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 130])
@pytest.mark.parametrize("group", [1, 2, 4, 100])
def test_batches_partition_the_videos(count, group):
    data = corpus([i // 3 for i in range(count)])
    rows = np.arange(count)[::-1] + 5
    some = group_into_batches(rows, nearest_videos(data, np.arange(count), 0), 16, group, 0, 0)
    assert sorted(np.concatenate(some).tolist()) == sorted(rows.tolist())
    assert [len(b) for b in some[:-1]] == [16] * (len(some) - 1)


def test_neighbours_share_a_step():
    kinds = np.random.default_rng(3).permutation([i // 4 for i in range(160)])
    data = corpus(kinds.tolist())
    near = nearest_videos(data, np.arange(160), 0)

    def together(group):
        some = group_into_batches(np.arange(160), near, 16, group, 0, 0)
        return np.mean([(kinds[b] == kinds[i]).sum() > 1 for b in some for i in b])

    assert together(4) > 0.9
    assert together(1) < 0.4  # by chance alone: about a quarter


def test_batches_depend_on_seed_and_epoch():
    data = corpus([i // 3 for i in range(60)])
    near = nearest_videos(data, np.arange(60), 0)

    def drawn(seed, epoch):
        return np.concatenate(group_into_batches(np.arange(60), near, 16, 4, seed, epoch)).tolist()

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2) and drawn(0, 1) != drawn(1, 1)


def test_nearest_videos_uses_random_blocks(monkeypatch):
    monkeypatch.setattr(hard_negatives, "_BLOCK", 40)
    kinds = np.random.default_rng(3).permutation([i // 10 for i in range(200)])
    near = nearest_videos(corpus(kinds.tolist()), np.arange(200), 0)
    assert near.shape == (200, 24) and (near >= 0).all() and (near < 200).all()
    assert (near[:, 0] != np.arange(200)).all()
    # A fifth of the nine others of a kind are in a video's block on average: the nearest is nearly always one of them.
    assert (kinds[near[:, 0]] == kinds).mean() > 0.75
