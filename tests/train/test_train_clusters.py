"""Clusters of what is told: found where they are, the same every time, and good for batches as neighbours are."""

import numpy as np
import pytest

from vla.corpus import Corpus, Query
from vla.features import FrameFeatures
from vla.train.clusters import clusters, neighbours
from vla.train.order import batches


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def blobs(kinds, dim=16, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    looks = unit(rng.standard_normal((max(kinds) + 1, dim)))
    return unit(looks[kinds] + spread * rng.standard_normal((len(kinds), dim))).astype(np.float32)


def corpus(kinds, silent=(), seed=0):
    """Videos that all look alike, and are told of in as many ways as there are kinds."""
    told = blobs(kinds, seed=seed)
    rng = np.random.default_rng(seed)
    videos = [
        FrameFeatures(f"v{i}", rng.standard_normal((3, 16)).astype(np.float16), np.arange(3.0), 3.0)
        for i in range(len(kinds))
    ]
    queries, vectors = [], {}
    for i in range(len(kinds)):
        for k in range(2):
            if i not in silent:
                text = f"text {i} {k}"
                vectors[text] = told[i] * (1 + k) * 3
                queries.append(Query(text, (text,), (text,), i, np.zeros((0, 2))))
    return Corpus(videos, queries, vectors)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_that_are_there_are_found(seed):
    kinds = np.random.default_rng(9).permutation([i % 8 for i in range(200)])
    member = clusters(blobs(kinds), 8, seed)
    assert len(set(zip(member.tolist(), kinds.tolist(), strict=True))) == len(set(member.tolist())) == 8


def test_each_is_with_the_center_it_is_most_alike():
    """What ended because nothing moved is a fixed point: naive centers of the members, naive nearest of these."""
    vectors = blobs(np.arange(150) % 5, spread=0.3)
    member = clusters(vectors, 5, 3)
    centers = [
        unit(np.mean([v for v, m in zip(vectors.astype(float), member, strict=True) if m == k], 0)) for k in range(5)
    ]
    for v, m in zip(vectors, member, strict=True):
        assert m == max(range(5), key=lambda k: float(v @ centers[k]))


def test_many_clusters_of_few_and_of_what_coincides():
    vectors = blobs(np.arange(6), spread=0.0)
    assert sorted(clusters(vectors, 100, 0)) == list(range(6))
    assert set(clusters(np.repeat(vectors[:1], 5, 0), 3, 0)) <= {0, 1, 2}
    assert clusters(vectors[:1], 1, 0).tolist() == [0]


def test_the_seed_decides_and_nothing_else():
    vectors = blobs(np.arange(300) % 30, spread=0.7)
    assert clusters(vectors, 20, 1).tolist() == clusters(vectors, 20, 1).tolist()
    assert clusters(vectors, 20, 1).tolist() != clusters(vectors, 20, 2).tolist()


def test_neighbours_are_of_one_cluster_nearest_first():
    kinds = np.random.default_rng(3).permutation([i // 64 for i in range(256)])
    data = corpus(kinds)
    rows = np.random.default_rng(4).permutation(256)
    found = neighbours(data, rows, 0)
    assert found.shape == (256, 24) and found.dtype == np.int64
    told = blobs(kinds)[rows].astype(float)
    for place in range(256):
        others = [j for j in range(256) if j != place and kinds[rows[j]] == kinds[rows[place]]]
        wanted = sorted(others, key=lambda j: -(told[place] @ told[j]))[:24]
        same = [told[place] @ told[j] for j in found[place]]
        assert same == pytest.approx([told[place] @ told[j] for j in wanted], abs=1e-5)
        assert place not in found[place] and len(set(found[place].tolist())) == 24


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 130])
@pytest.mark.parametrize("group", [1, 4, 100])
def test_each_video_once_in_batches_that_are_full(count, group):
    data = corpus([i // 3 for i in range(count)], silent=(0,))
    rows = np.arange(count)
    some = batches(rows, neighbours(data, rows, 0), 16, group, 0, 0)
    assert sorted(np.concatenate(some).tolist()) == rows.tolist()
    assert [len(b) for b in some[:-1]] == [16] * (len(some) - 1)


def test_what_is_told_alike_shares_a_step():
    kinds = np.random.default_rng(3).permutation([i // 4 for i in range(320)])
    data = corpus(kinds)

    def together(group):
        some = batches(np.arange(320), neighbours(data, np.arange(320), 0), 16, group, 0, 0)
        return np.mean([(kinds[b] == kinds[i]).sum() > 1 for b in some for i in b])

    assert together(4) > 0.8
    assert together(1) < 0.4
