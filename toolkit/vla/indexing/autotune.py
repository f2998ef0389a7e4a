"""Autotuning: choose the kind and parameters of an index by benchmarks on the vectors of the user.

The fastest index that fits into memory and reaches the requested recall is chosen.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from vla.errors import EnvironmentUnfitError
from vla.hints import Hint, Note
from vla.indexes._trial import trial_error
from vla.indexes.base import Index
from vla.indexing.benchmark import GroundTruth, K, VectorSource, benchmark_index
from vla.indexing.config import AUTO, IndexBenchmark, IndexConfig
from vla.indexing.fragments import exhaustive
from vla.progress import Progress, ProgressCallback, silent

CANDIDATES = ("faiss_flat", "faiss_ivf", "faiss_ivf_sq8", "faiss_ivf_rabitq")
_QUERIES = 400


@dataclass(frozen=True)
class TunedIndex:
    """Result of `autotune_index`.

    Attributes:
        index: the chosen index.
        backend: name of its plug-in.
        depth: number of rows of its results to re-rank.
        benchmarks: benchmarks of all kinds.
        notes: messages for the user.
    """

    index: Index
    backend: str
    depth: int
    benchmarks: tuple[IndexBenchmark, ...]
    notes: tuple[str, ...] = ()


def synthetic_queries(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return `(Q, E)` random rows, each with noise of its own length.

    Queries for an index without captions.
    """
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(vectors), min(_QUERIES, len(vectors)), replace=False)
    sample = vectors[rows].astype(np.float32)
    noise = rng.standard_normal(sample.shape).astype(np.float32)
    return (
        sample + noise * (np.linalg.norm(sample, axis=1) / np.linalg.norm(noise, axis=1))[:, None]
    )


def autotune_index(
    vectors: np.ndarray,
    queries: np.ndarray,
    config: IndexConfig,
    progress: ProgressCallback = silent,
) -> TunedIndex:
    """Build the index of `vectors` `(N, E)` for `config`, tuned and benchmarked with `queries` `(Q,
    E)`.

    Half of the queries tune `probes` and `depth`, the other half estimates the recall. If no index
    fits into memory, the smallest is chosen; if no index that fits reaches the requested recall,
    the one with the highest. The notes mention either.

    Each kind is first tried in a process of its own (`trial_error`); kinds that fail are skipped, with
    a note.

    Args:
        vectors: at least 10 rows.
        queries: vectors of queries.
        config: requested configuration.
        progress: called for each kind.

    Raises:
        EnvironmentUnfitError: the requested kind, or every kind, fails with the installed FAISS.
    """
    queries = np.ascontiguousarray(queries[:_QUERIES], np.float32)
    truth = GroundTruth(queries, exhaustive(vectors, queries, K)[0][:, -1])
    faults = {
        name: trial_error(name)
        for name in (CANDIDATES if config.backend == AUTO else (config.backend,))
    }
    source, names = VectorSource(vectors), [name for name, fault in faults.items() if not fault]
    notes: list[str] = [
        Note(f"index kind {name} does not work here and was passed over: {fault}", Hint("doctor"))
        for name, fault in faults.items()
        if fault
    ]
    if not names:
        raise EnvironmentUnfitError(
            f"index kind {', '.join(faults)} does not work here: {next(iter(faults.values()))}",
            hint=Hint("doctor"),
        )
    # A limit that is not configured applies to the automatic choice only, not to a requested kind.
    max_bytes = (config.memory or _spare_memory()) if config.backend == AUTO else None
    best: tuple[Index, IndexBenchmark] | None = None
    benchmarks: list[IndexBenchmark] = []
    for number, name in enumerate(names):
        progress(Progress("measure", number, len(names)))
        index, benchmark = benchmark_index(name, source, truth, config.recall, max_bytes)
        benchmarks.append(benchmark)
        if index is not None and (
            best is None or _cost(benchmark, config) < _cost(best[1], config)
        ):
            best = index, benchmark
    if best is None:
        smallest = min(benchmarks, key=lambda b: b.bytes_per_vector)
        notes.append(f"no index fits into {(max_bytes or 0) / 1e6:.0f} MB; the smallest was chosen")
        index, benchmark = benchmark_index(smallest.backend, source, truth, config.recall, None)
        benchmarks[benchmarks.index(smallest)] = benchmark
        best = index, benchmark  # type: ignore[assignment]
    progress(Progress("measure", len(names), len(names)))
    index, choice = best  # type: ignore[misc]
    if choice.recall < config.recall:
        notes.append(
            f"recall@{K} is {choice.recall:.3f} on held-out queries, below the requested "
            f"{config.recall:g}"
        )
    rows = tuple(replace(b, chosen=b is choice) for b in benchmarks)
    return TunedIndex(index, choice.backend, choice.depth, rows, tuple(notes))


def _cost(benchmark: IndexBenchmark, config: IndexConfig) -> tuple[float, float]:
    """Return the sort key of a benchmark, lowest best: shortfall of recall, then time."""
    return max(0.0, config.recall - benchmark.recall), benchmark.p50_ms


def _spare_memory() -> float:
    """Return half of the free memory of this machine, in bytes; infinity if it is not known."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (ValueError, OSError, AttributeError):
        return float("inf")
