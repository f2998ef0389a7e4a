"""Contract of indexes: results equal those of `exact`, and its results those of a loop.

Approximate indexes return candidates that include the best rows, with estimates of their scores.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.refusals import refused
from vla.errors import CacheError, ShapeError
from vla.hints import Hint
from vla.indexes import registry
from vla.indexes.base import NO_ID
from vla.indexing.fragments import rerank

DIM = 6
every = pytest.mark.parametrize("name", registry.names())
EXACT = [name for name in registry.names() if registry.get(name).is_exact]
ESTIMATING = [name for name in registry.names() if name not in EXACT]
exact_ones = pytest.mark.parametrize("name", EXACT)
estimating_ones = pytest.mark.parametrize("name", ESTIMATING)


def rows(count, seed=0, scale=3.0):
    """Vectors of very different lengths: an index that normalises comes out wrong."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, DIM)) * rng.uniform(0.1, scale, (count, 1))).astype(
        np.float32
    )


def whole(count, seed=0):
    """Small whole numbers: products are exact in any order of summation, and many are equal."""
    return np.random.default_rng(seed).integers(-2, 3, (count, DIM)).astype(np.float32)


def built(name, ids, vectors):
    index = registry.build(name, dim=vectors.shape[1])
    index.add(np.asarray(ids), vectors)
    return index


def naive(table, queries, k):
    """`table` is `{id: vector}`; plain Python floats, which are float64."""
    scores, ids = [], []
    for query in queries.tolist():
        found = sorted(
            (-math.fsum(a * b for a, b in zip(query, vector.tolist(), strict=True)), i)
            for i, vector in table.items()
        )[:k]
        scores.append([-s for s, _ in found] + [-math.inf] * (k - len(found)))
        ids.append([i for _, i in found] + [NO_ID] * (k - len(found)))
    return np.array(scores), np.array(ids)


def found_by(index, table, queries, k, allowed=None):
    """What the index finds; where it estimates, what comes of scoring all that it can find anew."""
    if index.is_exact:
        return index.search(queries, k, allowed)
    index.nprobe = max(1, index.nlist)
    _, candidates = index.search(queries, max(k, len(table)), allowed)
    assert candidates.shape == (len(queries), max(k, len(table)))
    for row in candidates:
        assert sorted(row[row != NO_ID].tolist()) == sorted(table)
    order = {i: place for place, i in enumerate(table)}
    rows = np.vectorize(lambda i: order.get(i, NO_ID), otypes=[np.int64])(candidates)
    scores, places = rerank(
        np.array(list(table.values()), np.float32).reshape(len(table), index.dim), queries, rows, k
    )
    return scores, np.array([*table, NO_ID], np.int64)[places]  # NOTHING is the last place, too


def agree(index, table, queries, k):
    table = dict(sorted(table.items()))  # places in order of id, so that equal scores are too
    scores, ids = found_by(index, table, queries, k)
    wanted_scores, wanted_ids = naive(table, queries, k)
    assert scores.shape == ids.shape == (len(queries), k)
    assert scores.dtype == np.float32 and ids.dtype == np.int64
    np.testing.assert_array_equal(ids, wanted_ids)
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-5)
    assert len(index) == len(table)


@every
@pytest.mark.parametrize("k", [1, 3, 40, 150])
@pytest.mark.parametrize("queries", [1, 7, 64])
def test_search_matches_brute_force(name, queries, k):
    ids, vectors = np.random.default_rng(5).permutation(500)[:200], rows(200)
    agree(
        built(name, ids, vectors),
        dict(zip(ids.tolist(), vectors, strict=True)),
        rows(queries, 9),
        k,
    )


@exact_ones
def test_search_matches_exact_index(name):
    ids, vectors, queries = np.arange(3000), rows(3000, 1), rows(20, 2)
    scores, found = built(name, ids, vectors).search(queries, 25)
    wanted_scores, wanted = built("exact", ids, vectors).search(queries, 25)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-5)


@every
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_ties_are_in_order_of_id(name, seed, count, k):
    """With whole numbers many scores are equal; which of them make it into the list is not left to chance."""
    ids = np.random.default_rng(seed).permutation(1000)[:count]
    vectors = whole(count, seed)
    agree(
        built(name, ids, vectors),
        dict(zip(ids.tolist(), vectors, strict=True)),
        whole(4, seed + 1),
        k,
    )


@every
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 60),
    st.integers(1, 70),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=40)
def test_id_mask_excludes_rows(name, seed, count, k, share):
    """Ids beyond the last that is spoken of are not allowed; with as many equal scores as whole numbers have."""
    rng = np.random.default_rng(seed)
    ids, vectors, queries = rng.permutation(100)[:count], whole(count, seed), whole(3, seed + 1)
    allowed = rng.random(rng.integers(0, 120)) < share
    index = built(name, ids, vectors)
    table = {
        i: v for i, v in zip(ids.tolist(), vectors, strict=True) if i < len(allowed) and allowed[i]
    }
    table = dict(sorted(table.items()))
    scores, found = found_by(index, table, queries, k, allowed)
    wanted_scores, wanted = naive(table, queries, k)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(scores, wanted_scores)


@every
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_id_mask_keeps_scores_to_the_bit(name, share):
    rng = np.random.default_rng(4)
    vectors, query = (
        rng.standard_normal((2000, 67)).astype(np.float32),
        rng.standard_normal((1, 67)).astype(np.float32),
    )
    index, allowed = built(name, np.arange(2000), vectors), rng.random(2000) < share
    index.nprobe = index.nlist
    scores, ids = index.search(query, 2000)
    kept = allowed[ids[0]]
    some, found = index.search(query, int(allowed.sum()), allowed)
    assert found[0].tolist() == ids[0, kept].tolist()
    assert some[0].tobytes() == scores[0, kept].tobytes()


@estimating_ones
def test_id_mask_widens_nprobe(name):
    """So that as many rows are compared as without: with the same lists there would be none left to find in most."""
    vectors, queries = clustered(4000, 128), clustered(100, 128, seed=1)
    index = registry.build(name, dim=128)
    index.add(np.arange(4000), vectors)
    index.nprobe = 8
    allowed = np.random.default_rng(0).random(4000) < 0.1
    wanted = np.flatnonzero(allowed)[best_of(vectors[allowed], queries, 10)]

    def recall(found):
        return np.mean(
            [
                len(set(f) & set(w)) / 10
                for f, w in zip(found.tolist(), wanted.tolist(), strict=True)
            ]
        )

    assert recall(index.search(queries, 300, allowed)[1]) >= 0.97
    index.nprobe = 1
    assert recall(index.search(queries, 300, allowed)[1]) < 0.97


@exact_ones
@pytest.mark.parametrize("k", [1, 2, 120])
def test_equal_vectors_are_in_order_of_id(name, k):
    ids = np.random.default_rng(0).permutation(300)
    scores, found = built(name, ids, np.ones((300, DIM), np.float32)).search(
        np.ones((1, DIM), np.float32), k
    )
    assert found[0].tolist() == list(range(k))
    assert (scores == DIM).all()


@exact_ones
def test_longer_vectors_score_higher(name):
    """Inner product, not cosine."""
    vectors = np.array([[1, 0], [5, 0], [0.5, 0.5]], np.float32)
    scores, ids = built(name, [4, 2, 9], vectors).search(np.array([[2, 0]], np.float32), 3)
    assert (ids.tolist(), scores.tolist()) == ([[2, 4, 9]], [[10.0, 2.0, 1.0]])


@every
def test_k_above_number_of_rows(name):
    index = built(name, [3, 1], np.array([[1, 0], [0, 1]], np.float32))
    table = {1: np.array([0.0, 1.0]), 3: np.array([1.0, 0.0])}
    scores, ids = found_by(index, table, np.array([[1, 0.5], [-1, 0]], np.float32), 4)
    assert ids.tolist() == [[3, 1, NO_ID, NO_ID], [1, 3, NO_ID, NO_ID]]
    assert scores.tolist() == [[1.0, 0.5, -math.inf, -math.inf], [0.0, -1.0, -math.inf, -math.inf]]


@every
def test_an_empty_index(name):
    index = registry.build(name, dim=DIM)
    assert len(index) == 0
    agree(index, {}, rows(3), 2)
    assert index.remove(np.array([1, 2])) == 0
    index.add(np.zeros(0, np.int64), np.zeros((0, DIM), np.float32))
    assert len(index) == 0
    agree(type(index).from_bytes(index.to_bytes()), {}, rows(1), 3)


@every
def test_no_queries(name):
    scores, ids = built(name, np.arange(5), rows(5)).search(np.zeros((0, DIM), np.float32), 3)
    assert scores.shape == ids.shape == (0, 3)


@every
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "save"]), st.integers(0, 99)),
        min_size=1,
        max_size=10,
    )
)
@settings(deadline=None, max_examples=30)
def test_add_and_remove_match_dictionary(name, history):
    """Adding replaces, removing forgets and says how many, saving and loading change nothing."""
    index, table = registry.build(name, dim=DIM), {}
    for step, (action, seed) in enumerate(history):
        rng = np.random.default_rng([step, seed])
        ids = rng.permutation(25)[: rng.integers(0, 12)]
        if action == "add":
            vectors = whole(len(ids), seed)
            index.add(ids, vectors)
            table |= dict(zip(ids.tolist(), vectors, strict=True))
        elif action == "remove":
            assert index.remove(ids) == len(set(ids.tolist()) & set(table))
            table = {i: v for i, v in table.items() if i not in set(ids.tolist())}
        else:
            index = type(index).from_bytes(index.to_bytes())
        agree(index, table, whole(3, seed + 1), 7)


@every
def test_serialization_round_trip(name):
    ids, vectors = np.random.default_rng(3).permutation(10**6)[:100], rows(100)
    index = built(name, ids, vectors)
    back = registry.get(name).from_bytes(index.to_bytes())
    assert back.dim == DIM and len(back) == 100
    for one, other in zip(back.search(rows(5, 1), 20), index.search(rows(5, 1), 20), strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.to_bytes() == index.to_bytes()
    back.add(
        ids[:1], vectors[:1] * 2
    )  # a loaded index can be changed, and the old one does not notice
    assert back.remove(ids[:3]) == 3 and len(index) == 100


@every
@pytest.mark.parametrize("big", [2**31, 2**53 + 1, 2**62])
def test_large_ids(name, big):
    _, ids = built(name, np.array([big, 1]), np.array([[2.0], [1.0]], np.float32)).search(
        np.ones((1, 1), np.float32), 2
    )
    assert ids.tolist() == [[big, 1]]


@every
def test_rejects_invalid_bytes(name):
    content = built(name, np.arange(20), rows(20)).to_bytes()
    cls = registry.get(name)
    cuts = [0, 1, 3, 4, 8, 19, 20, 21, len(content) // 2, len(content) - 1]
    for wrong in [
        *(content[:n] for n in cuts),
        b"nonsense",
        b"\0" * 100,
        b"PK\3\4" + content,
        content[1:],
        b"IxFI" + content[4:],
    ]:
        with pytest.raises(CacheError):
            cls.from_bytes(wrong)


@every
def test_rejects_index_of_another_type(name):
    for other in registry.names():
        if other != name:
            with refused(CacheError, "index"):
                registry.get(name).from_bytes(built(other, [1], rows(1)).to_bytes())


@every
def test_rejects_oversized_declarations(name):
    """The counts in a header are believed only as far as the file goes."""
    content = bytearray(built(name, np.arange(20), rows(20)).to_bytes())
    for place in range(4, min(60, len(content) - 8), 4):
        damaged = bytearray(content)
        damaged[place : place + 8] = (1 << 40).to_bytes(8, "little")
        try:
            index = registry.get(name).from_bytes(bytes(damaged))
        except CacheError:
            continue
        assert len(index) <= 20


@every
@pytest.mark.parametrize(
    ("ids", "vectors"),
    [
        ([1, 2], np.zeros((3, DIM))),
        ([1], np.zeros((1, DIM + 1))),
        ([1], np.zeros(DIM)),
        ([1, 1], np.zeros((2, DIM))),
        ([-1], np.zeros((1, DIM))),
        ([1], np.full((1, DIM), np.nan)),
        ([1], np.full((1, DIM), np.inf)),
    ],
)
def test_rejects_invalid_vectors_unchanged(name, ids, vectors):
    kept = rows(3)
    index = built(name, [1, 2, 3], kept)
    with pytest.raises(ShapeError):
        index.add(np.array(ids), vectors.astype(np.float32))
    agree(index, {1: kept[0], 2: kept[1], 3: kept[2]}, rows(2, 1), 3)
    with pytest.raises(ShapeError):
        index.search(np.zeros((1, DIM + 1), np.float32), 1)


def clustered(count, dim=32, seed=0):
    """Vectors round fifty directions, of different lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, dim))
    found = centres[rng.integers(50, size=count)] + 0.5 * rng.standard_normal((count, dim))
    return (found * rng.uniform(0.5, 2, (count, 1))).astype(np.float32)


def best_of(vectors, queries, k):
    """Ids of the best `k` rows, in float64."""
    return np.argsort(
        -(queries.astype(np.float64) @ vectors.astype(np.float64).T), axis=1, kind="stable"
    )[:, :k]


@estimating_ones
def test_recall_with_enough_candidates(name):
    vectors, queries = clustered(4000, 128), clustered(100, 128, seed=1)
    index = registry.build(name, dim=128)
    index.add(np.arange(4000), vectors)
    best, depth = (
        best_of(vectors, queries, 10),
        {"faiss_ivf": 10, "faiss_ivf_sq8": 20}.get(name, 800),
    )

    def recall(probes):
        index.nprobe = probes
        _, found = index.search(queries, depth)
        return np.mean(
            [len(set(f) & set(b)) / 10 for f, b in zip(found.tolist(), best.tolist(), strict=True)]
        )

    assert index.nlist > 20 and not index.is_exact
    assert recall(index.nlist) >= 0.99  # nothing is lost but by the estimate
    assert recall(16) >= 0.75 and recall(1) < recall(index.nlist)


@estimating_ones
def test_estimated_scores_are_close(name):
    """Within what a byte, or a bit of which there are many, can say: the error of an estimate is small beside the spread of scores."""
    rng = np.random.default_rng(3)
    vectors, queries = (
        rng.standard_normal((500, 256)).astype(np.float32),
        rng.standard_normal((20, 256)).astype(np.float32),
    )
    index = registry.build(name, dim=256)
    index.add(np.arange(500), vectors)
    index.nprobe = index.nlist
    scores, ids = index.search(queries, 500)
    true = np.take_along_axis(queries.astype(np.float64) @ vectors.T.astype(np.float64), ids, 1)
    share = np.std(scores - true) / np.std(true)
    assert share < {"faiss_ivf": 1e-5, "faiss_ivf_sq8": 0.02, "faiss_ivf_rabitq": 1.0}[name]
    assert (np.diff(scores, axis=1) <= 0).all()


@estimating_ones
def test_centroids_depend_on_the_seed_only(name):
    vectors = clustered(2000)

    def saved(seed):
        index = registry.build(name, {"seed": seed}, dim=32)
        index.add(np.arange(2000), vectors)
        return index.to_bytes()

    assert saved(1) == saved(1) != saved(2)


@estimating_ones
def test_training_on_a_sample(name):
    vectors = clustered(3000)
    index = registry.build(name, {"nlist": 30}, dim=32)
    index.train(vectors[:1500])
    assert len(index) == 0 and index.nlist == 30
    for first in range(0, 3000, 700):
        ids = np.arange(first, min(3000, first + 700))
        index.add(ids, vectors[ids])
    index.nprobe = 30
    assert sorted(index.search(vectors[:1], 3000)[1][0].tolist()) == list(range(3000))


def forged(name, change):
    """The bytes of an index with its arrays changed, as a stranger might write them."""
    from safetensors.numpy import load, save

    index = registry.build(name, dim=32)
    index.add(np.arange(500), clustered(500))
    arrays = {key: value.copy() for key, value in load(index.to_bytes()).items()}
    change(arrays)
    return save({key: np.ascontiguousarray(value) for key, value in arrays.items()})


def put(key, value):
    return lambda arrays: arrays.__setitem__(key, value(arrays[key]))


FORGERIES = {
    "a list too long": put("sizes", lambda a: a + np.eye(1, len(a), dtype=np.int64)[0]),
    "a list of less than nothing": put(
        "sizes", lambda a: a - 1000 * np.eye(1, len(a), dtype=np.int64)[0]
    ),
    "a list that is as long as memory": put("sizes", lambda a: a + np.int64(2**62)),
    "short codes": put("codes", lambda a: a[:, :-1]),
    "codes of fewer rows": put("codes", lambda a: a[:-1]),
    "fewer ids": put("ids", lambda a: a[:-1]),
    "ids twice": put("ids", lambda a: np.zeros_like(a)),
    "ids below nothing": put("ids", lambda a: a - 5),
    "centres of another width": put("centres", lambda a: a[:, :-1]),
    "centres that are no numbers": put("centres", lambda a: a * np.nan),
    "fewer centres": put("centres", lambda a: a[:-1]),
    "centres as doubles": put("centres", lambda a: a.astype(np.float64)),
    "no lists at all": put("settings", lambda a: np.array([0, 1, 0])),
    "no probes": put("settings", lambda a: np.array([a[0], 0, 0])),
    "settings missing": lambda arrays: arrays.pop("settings"),
    "another kind": put("kind", lambda a: np.frombuffer(b"pq", np.uint8)),
    "learned too much": put("learned", lambda a: np.full(len(a) + 64, np.nan, np.float32)),
    "turned strangely": put("turn", lambda a: np.full((7, 32), 1, np.float32)),
}


@estimating_ones
@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_rejects_inconsistent_arrays(name, change):
    try:
        found = registry.get(name).from_bytes(forged(name, change))
    except CacheError as error:
        assert error.hint == Hint("index")
    else:  # kinds that learn nothing have nothing to be wrong there
        assert (
            change is FORGERIES["learned too much"]
            and name != "faiss_ivf_sq8"
            and len(found) == 500
        )


@every
def test_does_not_keep_the_callers_arrays(name):
    vectors = rows(5)
    index = built(name, np.arange(5), vectors)
    before = index.search(rows(2, 1), 5)
    vectors[:] = 0
    for one, other in zip(index.search(rows(2, 1), 5), before, strict=True):
        np.testing.assert_array_equal(one, other)
