"""Contents of `index.json`, with the types and ranges that are accepted; readable without numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vla.errors import CacheError, MissingError, VlaError
from vla.features import FeatureSpec
from vla.hints import Hint
from vla.indexing.config import IndexBenchmark, IndexConfig
from vla.storage import atomic, records
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
_WAY_ON = Hint("index")
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


@dataclass(frozen=True)
class IndexSummary:
    """Summary of an index: attributes of `SearchIndex`, and `segments`, the number of its rows."""

    spec: FeatureSpec
    videos: int
    segments: int
    run: str
    run_digest: str
    cache_state: str
    backend: str


def summary(folder: Path) -> IndexSummary:
    """Return the summary of the index in `folder` without reading its vectors.

    Raises as `read_record`.
    """
    record, spec = read_record(folder)
    return IndexSummary(
        spec,
        record.videos,
        record.segments,
        record.run,
        record.run_digest,
        record.cache_state,
        record.backend,
    )


def unused_files(folder: Path) -> list[Path]:
    """Return the files in `folder` that its index does not refer to, left by an interruption."""
    try:
        names = {
            name
            for part in read_record(folder)[0].parts
            for name in (part.vectors, part.rows, part.lists)
        }
    except VlaError:  # without a record, no file can be shown to be unused
        return []
    return [
        p
        for pattern in ("vectors-*", "rows-*", "lists-*")
        for p in folder.glob(pattern)
        if p.name not in names
    ]


def read_record(folder: Path) -> tuple[IndexRecord, FeatureSpec]:
    """Return the contents of `index.json` in `folder` and the feature space of the index.

    Raises:
        MissingError: there is no index.
        CacheError: the file is damaged, or of an older or newer version.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise MissingError("there is no index yet", hint=_WAY_ON)
    content = atomic.read_record(path, _WAY_ON)
    version = content.value.get("schema") if isinstance(content.value, dict) else None
    if type(version) is int and version < SCHEMA:
        raise CacheError(f"{path} was written by an older vla (schema {version})", hint=_WAY_ON)
    strict = not content.has_checksum
    record = records.decode(
        IndexRecord, content.value, str(path), _WAY_ON, schema=SCHEMA, strict=strict
    )
    return record, FeatureSpec.from_json(record.spec, str(path))
