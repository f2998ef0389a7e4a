"""What is asked of an index, and what was measured of one."""

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
    """What an index is to be.

    Attributes:
        backend: name of an index plug-in; `auto` for the one that measurements speak for.
        memory: bytes that the index may hold in memory, None for any number. Vectors that are mapped from a file do not count.
        recall: share of the ten best segments that must be among the ten that are found.
    """

    backend: Name = AUTO
    memory: Positive | None = None
    recall: float = RECALL

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise UsageError(f"recall is a share, above 0 and at most 1, not {self.recall}")


@dataclass(frozen=True)
class IndexBenchmark:
    """An index as it was measured, on its user's own vectors and machine.

    Attributes:
        backend: name of the plug-in.
        lists: see `vla.indexes.base.Index`.
        probes: likewise.
        depth: how many rows of its result were scored anew.
        recall: share of the ten best segments that it found, on queries that it was not set up with.
        bytes_per_vector: of the index in memory.
        p50_ms: half of all searches for ten segments took less, milliseconds.
        p95_ms: 95 % did.
        build_seconds: what making it took, without the centres that all kinds share.
        queries: what was asked: `captions` of the workspace, or `noise`, which is segments with noise.
        chosen: whether it was taken.
        why_not: why it was not; empty where it could have been.
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
    """`2GB` is 2e9 bytes, `2GiB` 2 ** 31; without a unit, bytes.

    Raises:
        UsageError: it is no size above 0.
    """
    text = size.strip().lower().replace(" ", "")
    number = text.rstrip("bikmgt")
    try:
        count = int(float(number) * _UNITS[text[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        count = 0
    if count < 1:
        raise UsageError(f"a size is a number and a unit, like 2GB or 500MB, not {size!r}")
    return count
