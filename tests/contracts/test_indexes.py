"""Every index: what `exact` finds, and `exact` itself against a loop."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import CacheError, ShapeError
from vla.indexes import registry
from vla.indexes.base import NOTHING

DIM = 6
every = pytest.mark.parametrize("name", registry.names())


def rows(count, seed=0, scale=3.0):
    """Vectors of very different lengths: an index that normalises comes out wrong."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, DIM)) * rng.uniform(0.1, scale, (count, 1))).astype(np.float32)


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
            (-math.fsum(a * b for a, b in zip(query, vector.tolist(), strict=True)), i) for i, vector in table.items()
        )[:k]
        scores.append([-s for s, _ in found] + [-math.inf] * (k - len(found)))
        ids.append([i for _, i in found] + [NOTHING] * (k - len(found)))
    return np.array(scores), np.array(ids)


def agree(index, table, queries, k):
    scores, ids = index.search(queries, k)
    wanted_scores, wanted_ids = naive(table, queries, k)
    assert scores.shape == ids.shape == (len(queries), k)
    assert scores.dtype == np.float32 and ids.dtype == np.int64
    np.testing.assert_array_equal(ids, wanted_ids)
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-5)
    assert len(index) == len(table)


@every
@pytest.mark.parametrize("k", [1, 3, 40, 150])
@pytest.mark.parametrize("queries", [1, 7, 64])
def test_it_finds_what_a_loop_finds(name, queries, k):
    ids, vectors = np.random.default_rng(5).permutation(500)[:200], rows(200)
    agree(built(name, ids, vectors), dict(zip(ids.tolist(), vectors, strict=True)), rows(queries, 9), k)


@every
def test_it_finds_what_exact_finds(name):
    ids, vectors, queries = np.arange(3000), rows(3000, 1), rows(20, 2)
    scores, found = built(name, ids, vectors).search(queries, 25)
    wanted_scores, wanted = built("exact", ids, vectors).search(queries, 25)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-5)


@every
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_equal_scores_are_in_order_of_id_at_the_end_of_the_list_too(name, seed, count, k):
    """With whole numbers many scores are equal; which of them make it into the list is not left to chance."""
    ids = np.random.default_rng(seed).permutation(1000)[:count]
    vectors = whole(count, seed)
    agree(built(name, ids, vectors), dict(zip(ids.tolist(), vectors, strict=True)), whole(4, seed + 1), k)


@every
@pytest.mark.parametrize("k", [1, 2, 120])
def test_copies_of_one_vector_come_in_order_of_id(name, k):
    ids = np.random.default_rng(0).permutation(300)
    scores, found = built(name, ids, np.ones((300, DIM), np.float32)).search(np.ones((1, DIM), np.float32), k)
    assert found[0].tolist() == list(range(k))
    assert (scores == DIM).all()


@every
def test_longer_vectors_score_higher(name):
    """Inner product, not cosine."""
    vectors = np.array([[1, 0], [5, 0], [0.5, 0.5]], np.float32)
    scores, ids = built(name, [4, 2, 9], vectors).search(np.array([[2, 0]], np.float32), 3)
    assert (ids.tolist(), scores.tolist()) == ([[2, 4, 9]], [[10.0, 2.0, 1.0]])


@every
def test_more_than_there_is(name):
    index = built(name, [3, 1], np.array([[1, 0], [0, 1]], np.float32))
    scores, ids = index.search(np.array([[1, 0.5], [-1, 0]], np.float32), 4)
    assert ids.tolist() == [[3, 1, NOTHING, NOTHING], [1, 3, NOTHING, NOTHING]]
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
@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "save"]), st.integers(0, 99)), min_size=1, max_size=10))
@settings(deadline=None, max_examples=30)
def test_after_any_history_it_is_as_a_dictionary(name, history):
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
def test_saved_and_loaded_it_is_the_same(name):
    ids, vectors = np.random.default_rng(3).permutation(10**6)[:100], rows(100)
    index = built(name, ids, vectors)
    back = registry.get(name).from_bytes(index.to_bytes())
    assert back.dim == DIM and len(back) == 100
    for one, other in zip(back.search(rows(5, 1), 20), index.search(rows(5, 1), 20), strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.to_bytes() == index.to_bytes()
    back.add(ids[:1], vectors[:1] * 2)  # a loaded index can be changed, and the old one does not notice
    assert back.remove(ids[:3]) == 3 and len(index) == 100


@every
@pytest.mark.parametrize("big", [2**31, 2**53 + 1, 2**62])
def test_large_ids_come_back_unharmed(name, big):
    _, ids = built(name, np.array([big, 1]), np.array([[2.0], [1.0]], np.float32)).search(
        np.ones((1, 1), np.float32), 2
    )
    assert ids.tolist() == [[big, 1]]


@every
def test_bytes_that_are_no_index_are_refused(name):
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
def test_an_index_of_another_kind_is_refused(name):
    for other in registry.names():
        if other != name:
            with pytest.raises(CacheError, match="run 'vla index' again"):
                registry.get(name).from_bytes(built(other, [1], rows(1)).to_bytes())


@every
def test_a_small_file_cannot_claim_to_be_large(name):
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
def test_what_does_not_fit_is_refused_and_changes_nothing(name, ids, vectors):
    kept = rows(3)
    index = built(name, [1, 2, 3], kept)
    with pytest.raises(ShapeError):
        index.add(np.array(ids), vectors.astype(np.float32))
    agree(index, {1: kept[0], 2: kept[1], 3: kept[2]}, rows(2, 1), 3)
    with pytest.raises(ShapeError):
        index.search(np.zeros((1, DIM + 1), np.float32), 1)


@every
def test_the_callers_arrays_are_its_own(name):
    vectors = rows(5)
    index = built(name, np.arange(5), vectors)
    before = index.search(rows(2, 1), 5)
    vectors[:] = 0
    for one, other in zip(index.search(rows(2, 1), 5), before, strict=True):
        np.testing.assert_array_equal(one, other)
