"""Configuration of an index, and its benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vla.errors import UsageError
from vla.storage.records import Count, Name, Positive, Share, between

Measurement = Annotated[float, between(0, 1e15)]
AUTO = "auto"
RECALL = 0.99
_UNITS = {
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "tb": 1e12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "b": 1,
    "": 1,
}


@dataclass(frozen=True)
class IndexConfig:
    """Configuration of an index.

    Attributes:
        backend: name of an index plug-in; `auto` for the fastest one in a benchmark.
        memory: maximum size of the index in memory, in bytes, without vectors that are mapped from
            a file; None for any.
        recall: minimum recall@10: share of the ten best segments among the ten found.
    """

    backend: Name = AUTO
    memory: Positive | None = None
    recall: float = RECALL

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise UsageError(f"invalid recall {self.recall}: it is a share above 0 and at most 1")


@dataclass(frozen=True)
class IndexBenchmark:
    """Benchmark of an index on the vectors and the machine of its user.

    Attributes:
        backend: name of the plug-in.
        lists: see `vla.indexes.base.Index`.
        probes: see `vla.indexes.base.Index`.
        depth: number of rows of its result that were re-ranked by exact scores.
        recall: recall@10 on queries that it was not tuned with.
        bytes_per_vector: size of the index in memory, for each vector.
        p50_ms: median time of a search for ten segments, in milliseconds.
        p95_ms: 95th percentile of that time.
        build_seconds: time to build it, without the centroids that all kinds share.
        queries: queries of the benchmark: `captions` of the workspace, or `noise`, segments with
            noise.
        chosen: whether it was chosen.
        why_not: reason for excluding it; empty if it qualified.
    """

    backend: str
    lists: Count
    probes: Count
    depth: Count
    recall: Share
    bytes_per_vector: Measurement
    p50_ms: Measurement
    p95_ms: Measurement
    build_seconds: Measurement
    queries: str = ""
    chosen: bool = False
    why_not: str = ""


def parse_bytes(size: str) -> int:
    """Return the number of bytes of a size: `2GB` is 2e9, `2GiB` is 2 ** 31; without a unit, bytes.

    Raises:
        UsageError: it is not a size above 0.
    """
    text = size.strip().lower().replace(" ", "")
    number = text.rstrip("bikmgt")
    try:
        count = int(float(number) * _UNITS[text[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        count = 0
    if count < 1:
        raise UsageError(f"invalid size {size!r}: write a number and a unit, like 2GB or 500MB")
    return count
