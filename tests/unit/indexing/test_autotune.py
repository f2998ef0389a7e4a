"""Choosing an index by measurement: what is said of it is true, and it is what was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import CacheError, UsageError
from vla.indexes import registry
from vla.indexes.base import NO_ID
from vla.indexing import benchmark, compaction
from vla.indexing.autotune import CANDIDATES, autotune_index, synthetic_queries
from vla.indexing.config import IndexConfig, parse_bytes
from vla.indexing.fragments import Fragment, FragmentedIndex, exhaustive, rerank


def clustered(count, dim=32, seed=0, kind=np.float32):
    rng = np.random.default_rng(seed)
    rows = np.random.default_rng(5).standard_normal((40, dim))[
        rng.integers(40, size=count)
    ] + 0.6 * rng.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(kind)


def true_recall(vectors, queries, index, depth):
    """Share of the ten best rows, in float64, that are among the ten best of the candidates."""
    shares = []
    for query in queries:
        scores = vectors.astype(np.float64) @ query.astype(np.float64)
        found = index.search(query[None], max(depth, 20))[1][0]
        found = found[found >= 0]
        ten = found[np.argsort(-scores[found])][:10]
        shares.append(np.mean(np.isin(ten, np.argsort(-scores)[:10])))
    return float(np.mean(shares))


@pytest.mark.parametrize("backend", [n for n in registry.names() if not registry.get(n).is_exact])
@pytest.mark.parametrize("recall", [0.8, 0.99])
@pytest.mark.parametrize("is_unit", [True, False])
def test_the_recall_that_is_stated_is_the_recall_there_is(backend, recall, is_unit):
    """On queries that nothing was set up with: the stated figure is an estimate from two hundred others."""
    vectors = clustered(6000, kind=np.float16)
    if not is_unit:
        vectors = (vectors * np.random.default_rng(6).uniform(0.2, 5, (6000, 1))).astype(np.float16)
    chosen = autotune_index(vectors, clustered(400, seed=2), IndexConfig(backend, recall=recall))
    (row,) = chosen.benchmarks
    assert row.chosen and (row.backend, row.probes, row.depth) == (
        backend,
        chosen.index.nprobe,
        chosen.depth,
    )
    assert row.recall >= recall or chosen.notes
    found = true_recall(vectors, clustered(300, seed=3), chosen.index, chosen.depth)
    assert found == pytest.approx(row.recall, abs=0.03)
    in_memory = chosen.index.memory_factor * len(chosen.index.to_bytes())
    assert row.bytes_per_vector == pytest.approx(in_memory / 6000, rel=0.02)
    assert 0 < row.p50_ms <= row.p95_ms


def work(part, queries):
    """What a search looks at, in the place of how long it takes."""
    return [part.index.nprobe * len(part.vectors) / part.index.nlist + 20 * part.depth] * 2


def test_less_recall_is_less_work(monkeypatch):
    monkeypatch.setattr(benchmark, "_time_searches", work)
    vectors, queries = clustered(6000), clustered(200, seed=2)
    little, much = (
        autotune_index(vectors, queries, IndexConfig("faiss_ivf", recall=r)).benchmarks[0]
        for r in (0.3, 1.0)
    )
    assert (
        little.probes < much.probes and little.recall < much.recall and little.p50_ms < much.p50_ms
    )


def test_of_what_finds_enough_the_fastest_is_taken(monkeypatch):
    """Against all settings there are, one after the other."""
    monkeypatch.setattr(benchmark, "_time_searches", work)
    vectors, queries = clustered(3000), clustered(200, seed=2)
    chosen = autotune_index(vectors, queries, IndexConfig("faiss_ivf_rabitq", recall=0.9))
    enough = []
    for probes in [2**i for i in range(7)]:
        for depth in benchmark._DEPTHS:
            chosen.index.nprobe, of_half = probes, queries[::2]
            if true_recall(vectors, of_half, chosen.index, depth) >= 0.9:
                enough.append(probes * 3000 / chosen.index.nlist + 20 * depth)
    assert chosen.benchmarks[0].p50_ms == pytest.approx(
        min(enough), rel=0.34
    )  # a third slower counts as no slower


def test_memory_is_kept_to():
    """Of 6,000 vectors of 64 numbers, flat takes 256 bytes each, with a byte for each number 86, with a bit in two layouts 81."""
    vectors, queries = clustered(6000, 64), clustered(100, 64, seed=2)
    for megabytes, fit in ((10, {"faiss_flat", "faiss_ivf", "faiss_ivf_sq8", "faiss_ivf_rabitq"}),
                           (0.8, {"faiss_ivf_sq8", "faiss_ivf_rabitq"}), (0.5, {"faiss_ivf_rabitq"})):  # fmt: skip
        chosen = autotune_index(vectors, queries, IndexConfig(memory=int(megabytes * 1e6)))
        assert {m.backend for m in chosen.benchmarks if m.why_not != "too large"} == fit
        assert (
            chosen.backend in fit
            and len(chosen.index.to_bytes()) * chosen.index.memory_factor <= megabytes * 1e6
        )
        assert [m.backend for m in chosen.benchmarks] == list(CANDIDATES)
        assert [m.backend for m in chosen.benchmarks if m.chosen] == [
            chosen.backend
        ] and not chosen.notes
        for m in chosen.benchmarks:
            assert (m.backend in fit) == (m.bytes_per_vector * 6000 <= megabytes * 1e6)


def test_where_nothing_fits_the_smallest_is_taken_and_it_is_said():
    chosen = autotune_index(
        clustered(8000, 128), clustered(60, 128, seed=2), IndexConfig(memory=1000)
    )
    assert chosen.backend == "faiss_ivf_rabitq" and len(chosen.index) == 8000
    assert "no index fits into 0 MB; the smallest was chosen" in chosen.notes[0]
    assert [m.chosen for m in chosen.benchmarks] == [False, False, False, True]


def test_where_nothing_finds_enough_it_is_said(monkeypatch):
    """One candidate scored anew for each wanted, of very rough estimates."""
    monkeypatch.setattr(benchmark, "_DEPTHS", (10,))
    monkeypatch.setattr(
        Fragment,
        "search",
        lambda self, q, k: rerank(self.vectors, q, self.index.search(q, 10)[1], k),
    )
    chosen = autotune_index(
        clustered(3000, 8), clustered(100, 8, seed=1), IndexConfig("faiss_ivf_rabitq", recall=1.0)
    )
    assert chosen.benchmarks[0].recall < 1 and chosen.benchmarks[0].why_not == "recall too low"
    assert "on held-out queries, below the requested 1" in chosen.notes[0]


def test_copies_of_a_row_are_as_good_as_it_is():
    """A thousand rows of which each is there ten times: whichever of the ten is found, it is one of the best."""
    vectors = np.repeat(clustered(300), 10, 0)
    chosen = autotune_index(vectors, clustered(100, seed=4), IndexConfig("faiss_ivf"))
    assert chosen.benchmarks[0].recall >= 0.99 and not chosen.notes


def test_queries_that_are_made_up_are_as_far_from_their_rows_as_noise_makes_them():
    vectors = clustered(1000, 64) * np.float32(3)
    queries = synthetic_queries(vectors)
    cosines = (vectors @ queries.T / np.linalg.norm(queries, axis=1) / 3).max(0)
    assert queries.shape == (400, 64) and 0.5 < np.median(cosines) < 0.9
    np.testing.assert_array_equal(queries, synthetic_queries(vectors))
    assert len(synthetic_queries(vectors[:7])) == 7


# Parts


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 40), st.booleans())
@settings(deadline=None, max_examples=60)
def test_searching_parts_is_searching_all(seed, count, k, is_exact):
    """Whole numbers, so that many scores are equal: these come in order of row, whichever part they are in."""
    rng = np.random.default_rng(seed)
    blocks = [
        rng.integers(-2, 3, (rng.integers(1, 30), 4)).astype(np.float32) for _ in range(count)
    ]
    gone = [frozenset(np.flatnonzero(rng.random(3) < 0.4).tolist()) for _ in blocks]
    owners = [rng.integers(0, 3, len(b)).astype(np.int32) for b in blocks]
    parts = [
        part(b, o, g, "exact" if is_exact else "faiss_ivf")
        for b, o, g in zip(blocks, owners, gone, strict=True)
    ]
    queries = rng.integers(-2, 3, (3, 4)).astype(np.float32)
    scores, ids = FragmentedIndex(parts, 4).search(queries, k)
    rows = [
        (v, o not in g)
        for b, os, g in zip(blocks, owners, gone, strict=True)
        for v, o in zip(b, os.tolist(), strict=True)
    ]
    for number, query in enumerate(queries):
        wanted = sorted((-float(v @ query), i) for i, (v, live) in enumerate(rows) if live)[:k]
        missing = k - len(wanted)
        assert ids[number].tolist() == [i for _, i in wanted] + [NO_ID] * missing
        assert scores[number].tolist() == [-s for s, _ in wanted] + [-np.inf] * missing
    assert len(FragmentedIndex(parts, 4)) == sum(live for _, live in rows)


def part(vectors, owners, gone, backend, depth=10_000):
    index = registry.build(backend, dim=vectors.shape[1])
    index.add(np.arange(len(vectors)), vectors)
    index.nprobe = index.nlist
    spans = np.zeros((len(vectors), 2))
    return Fragment(
        backend,
        lambda: index,
        vectors,
        owners,
        spans,
        ("a", "b", "c"),
        ("1", "2", "3"),
        depth,
        gone,
    )


@pytest.mark.parametrize("backend", registry.names())
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 40),
    st.sampled_from([0, 5, 10_000]),
)
@settings(deadline=None, max_examples=40)
def test_a_filter_is_a_search_of_all_of_which_some_is_left_out(backend, seed, count, k, few):
    """Whichever way it is done (`few`: up to how many rows are compared without the index), with what is gone gone."""
    rng = np.random.default_rng(seed)
    blocks = [
        rng.integers(-2, 3, (rng.integers(1, 60), 4)).astype(np.float32) for _ in range(count)
    ]
    gone = [frozenset(np.flatnonzero(rng.random(3) < 0.3).tolist()) for _ in blocks]
    owners = [rng.integers(0, 3, len(b)).astype(np.int32) for b in blocks]
    allowed = [rng.random(len(b)) < rng.random() for b in blocks]
    parts = FragmentedIndex(
        [part(b, o, g, backend) for b, o, g in zip(blocks, owners, gone, strict=True)], 4
    )
    queries = rng.integers(-2, 3, (2, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vla.indexing.fragments._MAX_EXHAUSTIVE_ROWS", few)
        scores, ids = parts.search(queries, k, np.concatenate(allowed))
    rows = [
        (v, a and o not in g)
        for b, os, g, mine in zip(blocks, owners, gone, allowed, strict=True)
        for v, o, a in zip(b, os.tolist(), mine.tolist(), strict=True)
    ]
    for number, query in enumerate(queries):
        wanted = sorted((-float(v @ query), i) for i, (v, there) in enumerate(rows) if there)[:k]
        missing = k - len(wanted)
        assert ids[number].tolist() == [i for _, i in wanted] + [NO_ID] * missing
        assert scores[number].tolist() == [-s for s, _ in wanted] + [-np.inf] * missing


@pytest.mark.parametrize("backend", registry.names())
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_filter_changes_no_bit_of_a_score(monkeypatch, backend, kind):
    """Whether rows are scored with or without the index, few at once or all."""
    vectors, query = clustered(900, 61, kind=kind), clustered(1, 61, seed=2)
    rng = np.random.default_rng(3)
    # What an exact index holds is what lies in the file.
    parts = FragmentedIndex(
        [
            part(b, np.zeros(len(b), np.int32), frozenset(), backend)
            for b in (vectors[:400], vectors[400:])
        ],
        61,
    )
    scores, ids = (found[0] for found in parts.search(query, 900))
    true = dict(zip(ids.tolist(), scores.tolist(), strict=True))
    for few in (0, 10_000):
        monkeypatch.setattr("vla.indexing.fragments._MAX_EXHAUSTIVE_ROWS", few)
        for share in (0.02, 0.4, 0.95):
            for k in (1, 10, 900):
                allowed = rng.random(900) < share
                some, rows = (found[0] for found in parts.search(query, k, allowed))
                wanted = [i for i in ids.tolist() if allowed[i]][:k]
                assert (
                    rows[: len(wanted)].tolist() == wanted and (rows[len(wanted) :] == NO_ID).all()
                )
                assert some[: len(wanted)].tolist() == [true[i] for i in wanted]


def test_no_parts():
    scores, ids = FragmentedIndex([], 4).search(np.zeros((2, 4), np.float32), 3)
    assert (ids == NO_ID).all() and scores.shape == ids.shape == (2, 3)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("k", [1, 7, 300, 2000])
def test_exhaustive_is_a_loop(monkeypatch, kind, k):
    monkeypatch.setattr("vla.indexing.fragments._BLOCK", 32 * 100)  # blocks of a hundred rows
    vectors, queries = clustered(1000, kind=kind), clustered(5, seed=9)
    live = np.random.default_rng(1).random(1000) < 0.7
    scores, ids = exhaustive(vectors, queries, k, live)
    for query, found, rows in zip(queries, scores, ids, strict=True):
        true = vectors.astype(np.float64) @ query.astype(np.float64)
        order = [i for i in np.argsort(-true, kind="stable") if live[i]][:k]
        assert rows[: len(order)].tolist() == order and (rows[len(order) :] == NO_ID).all()
        np.testing.assert_allclose(found[: len(order)], true[order], atol=1e-5)
    with pytest.raises(CacheError, match="no numbers"):
        exhaustive(np.full((3, 32), np.nan, np.float32), queries, 2)


def test_scoring_anew_keeps_nothing_as_nothing():
    vectors = np.array([[1, 0], [0, 2], [3, 0]], np.float16)
    scores, ids = rerank(vectors, np.array([[1, 1]], np.float32), np.array([[2, NO_ID, 0]]), 4)
    assert ids.tolist() == [[2, 0, NO_ID, NO_ID]] and scores.tolist() == [[3, 1, -np.inf, -np.inf]]


# What is asked


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2GB", 2 * 10**9),
        ("500 MB", 5 * 10**8),
        ("1.5gib", 3 * 2**29),
        ("10kb", 10_000),
        ("12345", 12345),
        ("7B", 7),
        ("1TB", 10**12),
    ],
)
def test_sizes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "0", "0.1", "2 gigs", "nan", "inf", "1e999", "GB2", "2XB"]
)
def test_sizes_that_are_none(text):
    with pytest.raises(UsageError, match="like 2GB or 500MB"):
        parse_bytes(text)


@pytest.mark.parametrize("recall", [0, -1, 1.1, float("nan")])
def test_shares_that_are_none(recall):
    with pytest.raises(UsageError, match="it is a share above 0 and at most 1"):
        IndexConfig(recall=recall)


def test_few_segments_are_compared_with_every_query(monkeypatch):
    """Nothing is measured below a size at which comparing with all takes milliseconds."""
    from types import SimpleNamespace

    def wanted(rows, dim, backend):
        index = SimpleNamespace(config=IndexConfig(backend), vectors=range(rows), dim=dim)
        return compaction._needs_ivf(index)

    assert not wanted(24_000, 512, "auto") and wanted(25_000, 512, "auto")
    assert not wanted(10**7, 512, "faiss_flat") and not wanted(10**7, 512, "exact")
    assert wanted(100, 512, "faiss_ivf") and not wanted(99, 512, "faiss_ivf")
