"""Contents of `index.json`, with the types and ranges that are accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vla.indexing.config import IndexBenchmark, IndexConfig
from vla.storage.records import (
    LATE,
    Count,
    Digest,
    FileName,
    FileNameOrEmpty,
    Hex,
    Name,
    Positive,
    Rule,
    between,
)

SCHEMA = 2
_Position = Annotated[str, Rule(lambda key: key.isdecimal() and len(key) < 10, "a number")]


@dataclass(frozen=True)
class PartRecord:
    """Record of a fragment: attributes of `Fragment`, and its files with their checksums."""

    backend: Name
    depth: Count
    segments: Positive
    gone: frozenset[Count]
    renamed: dict[_Position, str]
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
    """Contents of `index.json`: attributes of `SearchIndex` and of `IndexSummary`."""

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
