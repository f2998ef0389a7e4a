"""Choosing an index by measurement: kinds are built from the user's own vectors, set up with some queries, measured
with others.

Of what fits into the memory and finds what is asked for, the fastest is taken.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vla.errors import EnvironmentUnfitError
from vla.hints import Hint, Note
from vla.indexes import registry as indexes
from vla.indexes._trial import fault_of
from vla.indexes.base import Index
from vla.indexing.config import AUTO, IndexBenchmark, IndexConfig
from vla.indexing.fragments import Fragment, exhaustive, iter_blocks
from vla.progress import Progress, ProgressCallback, silent

CANDIDATES = ("faiss_flat", "faiss_ivf", "faiss_ivf_sq8", "faiss_ivf_rabitq")
K = 10
_DEPTHS = (20, 50, 100, 200, 400, 800, 1600)
_QUERIES = 400
_TIMED = 40
_NEARLY = 4 / 3
_SAME = 1e-5
"""Scores that differ by less are of equally good rows: sums of float32 come out differently in another order."""


@dataclass(frozen=True)
class TunedIndex:
    """The index that was taken, its plug-in, how deep its results are scored anew, all that was measured, and what to say."""

    index: Index
    backend: str
    depth: int
    measured: tuple[IndexBenchmark, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Truth:
    """Queries `(Q, E)` with the score of the tenth best row of each `(Q,)`."""

    queries: np.ndarray
    tenth: np.ndarray

    def recall(self, scores: np.ndarray) -> float:
        """Share of the ten best among rows with these true scores `(Q, C)`; a row is as good as another with its score."""
        hits = (scores >= self.tenth[:, None] - _SAME).sum(1)
        return float(np.minimum(hits, K).mean() / K)

    def half(self, which: int) -> _Truth:
        """Every other query: 0 to set up with, 1 to measure with."""
        return _Truth(self.queries[which::2], self.tenth[which::2])


@dataclass(frozen=True)
class _Source:
    """The vectors `(N, E)`, and what all indexes in lists can share of the work on them."""

    vectors: np.ndarray
    seed: int = 0

    @cached_property
    def sample(self) -> np.ndarray:
        """Some rows to learn from, float32."""
        from vla.indexes._ivf import PER_LIST, nlist_for

        count = min(len(self.vectors), max(10_000, (PER_LIST + 1) * nlist_for(len(self.vectors))))
        rows = np.random.default_rng(self.seed).choice(len(self.vectors), count, replace=False)
        return self.vectors[np.sort(rows)].astype(np.float32)

    @cached_property
    def centres(self) -> np.ndarray:
        """Where the rows gather."""
        from vla.indexes._ivf import nlist_for, train_centroids

        return train_centroids(self.sample, nlist_for(len(self.vectors)), self.seed)

    @cached_property
    def near(self) -> np.ndarray:
        """`(N,)`: which centre is nearest to each row."""
        from vla.indexes._ivf import nearest

        return np.concatenate([nearest(self.centres, block) for _, block in iter_blocks(self.vectors)])


def synthetic_queries(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """`(Q, E)`: for where there are no queries, rows at random with as much noise as they are long."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(vectors), min(_QUERIES, len(vectors)), replace=False)
    found = vectors[rows].astype(np.float32)
    noise = rng.standard_normal(found.shape).astype(np.float32)
    return found + noise * (np.linalg.norm(found, axis=1) / np.linalg.norm(noise, axis=1))[:, None]


def autotune_index(
    vectors: np.ndarray, queries: np.ndarray, asked: IndexConfig, progress: ProgressCallback = silent
) -> TunedIndex:
    """The index of `vectors` `(N, E)`, N at least 10, that `asked` describes, set up and measured with `queries` `(Q, E)`.

    Half of the queries set `probes` and `depth`, the other half says what came of it. If nothing fits into the memory, the
    smallest is taken; if nothing that fits finds enough, what finds most. Either is said in the notes.

    Each kind is tried in a process of its own first (`fault_of`): one that does not work here is passed over, and said.

    Raises:
        EnvironmentUnfitError: the kind that was named, or every kind, does not work with the FAISS that is installed.
    """
    queries = np.ascontiguousarray(queries[:_QUERIES], np.float32)
    truth = _Truth(queries, exhaustive(vectors, queries, K)[0][:, -1])
    faults = {name: fault_of(name) for name in (CANDIDATES if asked.backend == AUTO else (asked.backend,))}
    source, names = _Source(vectors), [name for name, fault in faults.items() if not fault]
    notes: list[str] = [Note(f"index kind {name} does not work here and was passed over: {fault}", Hint("doctor"))
             for name, fault in faults.items() if fault]  # fmt: skip
    if not names:
        raise EnvironmentUnfitError(
            f"index kind {', '.join(faults)} does not work here: {next(iter(faults.values()))}",
            hint=Hint("doctor"),
        )
    # The choice of kinds is ours; who names one has it, however large it is.
    room = (asked.memory or _spare_memory()) if asked.backend == AUTO else None
    best: tuple[Index, IndexBenchmark] | None = None
    rows: list[IndexBenchmark] = []
    for done, name in enumerate(names):
        progress(Progress("measure", done, len(names)))
        index, row = _candidate(name, source, truth, asked.recall, room)
        rows.append(row)
        if index is not None and (best is None or _rank(row, asked) < _rank(best[1], asked)):
            best = index, row
    if best is None:
        smallest = min(rows, key=lambda m: m.bytes_per_vector)
        notes.append(f"no index fits into {(room or 0) / 1e6:.0f} MB; the smallest was taken")
        index, row = _candidate(smallest.backend, source, truth, asked.recall, None)
        rows[rows.index(smallest)] = row
        best = index, row  # type: ignore[assignment]
    progress(Progress("measure", len(names), len(names)))
    index, taken = best  # type: ignore[misc]
    if taken.recall < asked.recall:
        notes.append(
            f"recall@{K} is {taken.recall:.3f} on queries it was not set up with; {asked.recall:g} was asked for"
        )
    measured = tuple(replace(m, chosen=m is taken) for m in rows)
    return TunedIndex(index, taken.backend, taken.depth, measured, tuple(notes))


def _rank(row: IndexBenchmark, asked: IndexConfig) -> tuple[float, float]:
    """The smaller, the better: enough recall first, then speed."""
    return max(0.0, asked.recall - row.recall), row.p50_ms


def _candidate(
    name: str, source: _Source, truth: _Truth, recall: float, room: float | None
) -> tuple[Index | None, IndexBenchmark]:
    """An index, set up, and what it does; None where it does not fit into `room` bytes."""
    from vla.indexes._ivf import IvfIndex

    if issubclass(indexes.get(name), IvfIndex):
        _ = source.near  # shared, so not this one's time
    began = time.perf_counter()
    index, size = _built(name, source, room)
    seconds = time.perf_counter() - began
    row = IndexBenchmark(name, 1, 1, 0, 0.0, size, 0.0, 0.0, round(seconds, 2), why_not="too large")
    if index is None:
        return None, row
    check, found, depth, kept = truth.half(1), -1.0, 0, 1
    for probes, deep in [(1, 0)] if index.is_exact else _settings(index, source.vectors, truth.half(0), recall):
        index.probes = probes
        seen = check.recall(_as_part(index, source.vectors, deep).search(check.queries, K)[0])
        if seen > found:
            found, depth, kept = seen, deep, probes
        if found >= recall:
            break
    index.probes = kept
    part = _as_part(index, source.vectors, depth)
    times = _timed(part, truth.queries)
    p50, p95 = (round(float(np.percentile(times, q)), 3) for q in (50, 95))
    why = "" if found >= recall else "recall too low"
    return index, replace(
        row, lists=index.lists, probes=index.probes, depth=depth, recall=found, p50_ms=p50, p95_ms=p95, why_not=why
    )


def _built(name: str, source: _Source, room: float | None) -> tuple[Index | None, float]:
    """The index called `name` of all vectors, with the bytes that a row takes; None where all would take more than `room`."""
    from vla.indexes._ivf import IvfIndex

    rows, dim = source.vectors.shape
    index: Index = indexes.build(name, dim=dim)
    if isinstance(index, IvfIndex):
        index.begin(source.sample, source.centres)
    else:
        index.train(source.sample)
    size = empty = len(index.to_bytes()) * index.memory_factor
    for first, block in iter_blocks(source.vectors):
        ids = np.arange(first, first + len(block))
        if isinstance(index, IvfIndex):
            index.add(ids, block, source.near[ids])
        else:
            index.add(ids, block)
        if not first:
            size = round(empty + (len(index.to_bytes()) * index.memory_factor - empty) / len(block) * rows)
            if room is not None and size > room:
                return None, size / rows
    return index, size / rows


def _settings(index: Index, vectors: np.ndarray, truth: _Truth, recall: float) -> list[tuple[int, int]]:
    """Probes and depth with which `index` finds `recall`, the fastest first; where there are none, what finds most."""
    settings: list[tuple[float, int, int]] = []
    best, deepest = np.inf, min(len(vectors), _DEPTHS[-1])
    for probes in sorted({min(index.lists, 2**i) for i in range(index.lists.bit_length() + 1)}):
        index.probes = probes
        found = index.search(truth.queries, deepest)[1]
        scores = np.stack([_true_scores(vectors, q, ids) for q, ids in zip(truth.queries, found, strict=True)])
        enough = [d for d in _DEPTHS if truth.recall(scores[:, :d]) >= recall]
        for depth in enough[:2]:
            took = float(np.median(_timed(_as_part(index, vectors, depth), truth.queries)))
            settings.append((took, probes, depth))
            best = min(best, took)
        if enough and settings[-1][0] > 3 * best:
            break
    # What is nearly as fast as the fastest is as good: where a machine is busy, times say no more. Then less work is better.
    settings.sort(key=lambda s: (s[0] > _NEARLY * best, *(s[1:] if s[0] <= _NEARLY * best else s)))
    return [(probes, depth) for _, probes, depth in settings] or [(index.lists, _DEPTHS[-1])]


def _true_scores(vectors: np.ndarray, query: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """`(C,)`, in the order of `ids`; -inf where there is nothing."""
    scores = np.full(len(ids), -np.inf, np.float32)
    there = ids >= 0
    scores[there] = vectors[ids[there]].astype(np.float32) @ query
    return scores


def _as_part(index: Index, vectors: np.ndarray, depth: int) -> Fragment:
    nowhere = np.zeros(len(vectors), np.int32)
    return Fragment("", lambda: index, vectors, nowhere, np.zeros((len(vectors), 2)), ("",), ("",), depth)


def _timed(part: Fragment, queries: np.ndarray) -> list[float]:
    """Milliseconds that each of some searches took, one query at a time, after a first one that does not count."""
    times = []
    for query in queries[: _TIMED + 1]:
        began = time.perf_counter()
        part.search(query[None], K)
        times.append((time.perf_counter() - began) * 1e3)
    return times[1:] or times


def _spare_memory() -> float:
    """Half of the bytes that are free on this machine; any number where it does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (ValueError, OSError, AttributeError):
        return float("inf")
