"""`index.json`: what an index says of itself, with the types and ranges that are believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vla.indexing.config import IndexBenchmark, IndexConfig
from vla.storage.records import LATE, Count, Digest, FileName, FileNameOrEmpty, Hex, Name, Positive, Rule, between

SCHEMA = 2
_Place = Annotated[str, Rule(lambda key: key.isdecimal() and len(key) < 10, "a number")]


@dataclass(frozen=True)
class PartRecord:
    """What the index says of a part: the attributes of `Part`, and its files with their checksums."""

    backend: Name
    depth: Count
    segments: Positive
    gone: frozenset[Count]
    renamed: dict[_Place, str]
    vectors: FileName
    vectors_sha256: Digest
    kind: Literal["float32", "float16"]
    rows: FileName
    rows_sha256: Digest
    lists: FileNameOrEmpty
    lists_sha256: Hex
    bytes: Count


@dataclass(frozen=True)
class IndexRecord:
    """`index.json`; the attributes of `SearchIndex`, and what `IndexSummary` says."""

    schema: Literal[SCHEMA]  # type: ignore[valid-type]
    dim: Annotated[int, between(1, 1 << 20)]
    videos: Count
    segments: Count
    spec: dict[str, Any]
    run: str
    run_digest: Hex
    backend: str
    cache_state: Hex
    asked: IndexConfig
    parts: list[PartRecord]
    measured: list[IndexBenchmark]
    cut: Annotated[str, LATE] = ""
