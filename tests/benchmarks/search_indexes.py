"""Indexes of many segments side by side: build time, bytes for a vector, recall@10 and how long a search takes.

    python tests/benchmarks/search_indexes.py [FOLDER] [--rows 100000] [--dim 512] [--recall 0.99]
        [--peers hnswlib usearch "faiss HNSW"]

Vectors are made to be like segments of videos: all in one cone, topics, videos within topics, shots within videos, neighbours
nearly the same, few directions that matter much. Queries are like texts: in a cone of their own, with a weak share of a
segment's direction. Ours and the peers (`pip install hnswlib usearch`; all with 16 links and 200 candidates) are set up with the
least effort that comes to the same recall on either half of the queries. Every query goes to all of them in turn before the
next one, so that whatever else the machine does, it does to all: first one query at a time, then two at a time from two threads.

FOLDER keeps the vectors, as float16, as an index has them, and the peers' graphs, which take long to build; seconds of building
are processor time. Bytes are those in memory; ours score their candidates anew from the mapped file, which the operating system
may keep in memory, too (2 bytes a number).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.indexes import _faiss
from vla.indexing.autotune import CANDIDATES
from vla.indexing.benchmark import GroundTruth, VectorSource, as_fragment, benchmark_index
from vla.indexing.fragments import exhaustive

K = 10
Search = Callable[[np.ndarray], np.ndarray]
"""Ids `(10,)` of one query `(E,)`."""


def rows_like_segments(
    path: Path, count: int, dim: int, seed: int = 0, per_video: int = 200
) -> np.ndarray:
    """`(count, dim)` float16 unit vectors in the file at `path`."""
    rng = np.random.default_rng(seed)
    cone = unit(rng.standard_normal(dim, np.float32))
    spread = (
        rng.standard_normal((dim, dim), np.float32)
        * (np.arange(1, dim + 1, dtype=np.float32) ** -0.5)[:, None]
    )
    topics = rng.standard_normal((300, dim), np.float32)
    found = np.memmap(path, np.float16, "w+", shape=(count, dim))
    for first in range(0, count, per_video):
        rows = min(per_video, count - first)
        video = topics[rng.integers(300)] + rng.standard_normal(dim, np.float32)
        shots = video + 0.8 * rng.standard_normal((rows // 10 + 1, dim), np.float32)
        frames = shots[np.arange(rows) // 10] + 0.4 * rng.standard_normal((rows, dim), np.float32)
        found[first : first + rows] = unit(1.2 * cone + unit(frames @ spread))
    return found


def queries_like_texts(vectors: np.ndarray, count: int, seed: int = 1) -> np.ndarray:
    """`(count, dim)` float32 unit vectors."""
    rng = np.random.default_rng(seed)
    dim = vectors.shape[1]
    some = vectors[
        np.sort(rng.choice(len(vectors), min(len(vectors), 20_000), replace=False))
    ].astype(np.float32)
    away = unit(some - some.mean(0))
    noise = unit(
        away[rng.integers(len(away), size=count)]
        + rng.standard_normal((count, dim), np.float32) / dim**0.5
    )
    cone = unit(rng.standard_normal(dim, np.float32))
    return unit(1.2 * cone + 0.6 * away[rng.integers(len(away), size=count)] + 0.8 * noise)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def ours(
    name: str, source: VectorSource, truth: GroundTruth, recall: float
) -> tuple[Search, float, float, str]:
    """A search, seconds to build, bytes for a vector, and how it was set up."""
    index, row = benchmark_index(name, source, truth, recall, None)
    part = as_fragment(index, source.vectors, row.depth)
    how = f"{row.lists} lists, {row.probes} probed, {row.depth} scored anew" if row.depth else ""
    return (lambda q: part.search(q[None], K)[1][0]), row.build_seconds, row.bytes_per_vector, how


@dataclass(frozen=True)
class Peer:
    """An index of somebody else's, as FOLDER keeps it.

    Attributes:
        at: the search with so much effort.
        seconds: that building it took, by all threads together.
        size: bytes in memory for a vector.
    """

    at: Callable[[int], Search]
    seconds: float
    size: float


def hnswlib_index(vectors: np.ndarray, threads: int, file: Path) -> Peer:
    import hnswlib

    def build() -> None:
        index = hnswlib.Index("ip", vectors.shape[1])
        index.init_index(len(vectors), ef_construction=200, M=16, random_seed=0)
        index.set_num_threads(threads)
        for first, block in _in_turn(vectors):
            index.add_items(block, np.arange(first, first + len(block)))
        index.save_index(str(file))

    seconds = kept(file, build)
    index = hnswlib.Index("ip", vectors.shape[1])
    index.load_index(str(file), len(vectors))

    def at(effort: int) -> Search:
        def search(q: np.ndarray) -> np.ndarray:
            index.set_ef(effort)
            return index.knn_query(q, K)[0][0].astype(np.int64)

        return search

    return Peer(at, seconds, index.index_file_size() / len(vectors))


def usearch_index(vectors: np.ndarray, threads: int, file: Path) -> Peer:
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=200
    )

    def build() -> None:
        for first, block in _in_turn(vectors):
            index.add(
                np.arange(first, first + len(block)), block.astype(np.float16), threads=threads
            )
        index.save(str(file))

    seconds = kept(file, build)
    index.load(str(file))

    def at(effort: int) -> Search:
        def search(q: np.ndarray) -> np.ndarray:
            index.expansion_search = effort
            return np.asarray(index.search(q, K).keys).astype(np.int64)

        return search

    return Peer(at, seconds, index.memory_usage / len(vectors))


def faiss_hnsw_index(vectors: np.ndarray, threads: int, file: Path) -> Peer:
    import faiss

    def build() -> None:
        # Half precision: half the memory, and the same order of neighbours.
        index = faiss.IndexHNSWSQ(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, 16, faiss.METRIC_INNER_PRODUCT
        )
        index.hnsw.efConstruction = 200
        faiss.omp_set_num_threads(threads)
        index.train(vectors[:1000].astype(np.float32))
        for _, block in _in_turn(vectors):
            index.add(block)
        faiss.write_index(index, str(file))

    seconds = kept(file, build)
    index = faiss.read_index(str(file))

    def at(effort: int) -> Search:
        def search(q: np.ndarray) -> np.ndarray:
            index.hnsw.efSearch = effort
            return np.asarray(index.search(q[None], K)[1][0])

        return search

    return Peer(at, seconds, file.stat().st_size / len(vectors))


PEERS = {"hnswlib": hnswlib_index, "usearch": usearch_index, "faiss HNSW": faiss_hnsw_index}


def _in_turn(vectors: np.ndarray, step: int = 50_000) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, len(vectors), step):
        yield first, np.ascontiguousarray(vectors[first : first + step], np.float32)


def kept(file: Path, build: Callable[[], None]) -> float:
    """Seconds of processor time that `build` took, now or when `file` was made."""
    note = file.with_suffix(".seconds")
    if not note.is_file():
        began = time.process_time()
        build()
        note.write_text(f"{time.process_time() - began:.0f}")
    return float(note.read_text())


def found_by(search: Search, truth: GroundTruth, vectors: np.ndarray) -> float:
    """Recall@10."""
    ids = [search(q) for q in truth.queries]
    return truth.recall(
        np.stack(
            [vectors[i].astype(np.float32) @ q for i, q in zip(ids, truth.queries, strict=True)]
        )
    )


def with_least_effort(
    at: Callable[[int], Search], truth: GroundTruth, vectors: np.ndarray, recall: float
) -> tuple[Search, str]:
    for effort in (20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560):
        if min(found_by(at(effort), truth.half(half), vectors) for half in (0, 1)) >= recall:
            break
    return at(effort), f"ef {effort}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("index-benchmark"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2, help="to build with")
    parser.add_argument("--ours", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--peers", nargs="*", default=[])
    a = parser.parse_args()
    a.folder.mkdir(parents=True, exist_ok=True)
    vectors = rows_like_segments(a.folder / "vectors.f16", a.rows, a.dim)
    queries = queries_like_texts(vectors, a.queries)
    best = exhaustive(vectors, queries, K)[0]
    truth = GroundTruth(queries, best[:, -1])
    print(
        f"{a.rows} vectors of {a.dim}; best cosine of a query {best[:, 0].mean():.2f}", flush=True
    )
    _faiss.set_num_threads(a.threads)
    source = VectorSource(vectors)
    began = time.process_time()
    if set(a.ours) - {"faiss_flat"}:
        _ = source.assignments
    print(f"centres, shared by ours in lists: {time.process_time() - began:.0f} s", flush=True)
    searches: dict[str, tuple[Search, float, float, str]] = {}
    for name in a.ours:
        searches[name] = ours(name, source, truth, a.recall)
        print(name, *searches[name][1:], flush=True)
    for name in a.peers:
        found = PEERS[name](vectors, a.threads, a.folder / f"{name.replace(' ', '-')}.index")
        search, how = with_least_effort(found.at, truth, vectors, a.recall)
        searches[name] = (search, found.seconds, found.size, how)
        print(name, *searches[name][1:], flush=True)
    print(
        "\n| | built, s | bytes a vector | recall@10 | p50 ms | p95 ms | two at once: p50 ms | p95 ms | set to |"
    )
    print("|---|" + "---|" * 8)
    only = {name: search for name, (search, *_) in searches.items()}
    times = [in_turn(only, queries, at_once) for at_once in (1, 2)]
    for name, (search, seconds, size, how) in searches.items():
        cells = [f"{ms:.2f}" for taken in times for ms in np.percentile(taken[name], [50, 95])]
        print(
            f"| {name} | {seconds:.0f} | {size:.0f} | {found_by(search, truth.half(1), vectors):.3f} | "
            + " | ".join(cells)
            + f" | {how} |"
        )


def in_turn(
    searches: dict[str, Search], queries: np.ndarray, at_once: int
) -> dict[str, list[float]]:
    """Milliseconds of each query by each search; so many queries go to all before the next ones."""
    taken: dict[str, list[float]] = {name: [] for name in searches}

    def timed(search: Search, query: np.ndarray) -> float:
        began = time.perf_counter()
        search(query)
        return (time.perf_counter() - began) * 1e3

    with ThreadPoolExecutor(at_once) as threads:
        for first in range(0, len(queries) - at_once + 1, at_once):
            for name, search in searches.items():
                spent = list(
                    threads.map(timed, [search] * at_once, queries[first : first + at_once])
                )
                if first:
                    taken[name] += spent
    return taken


if __name__ == "__main__":
    main()
