"""The index on disk: parts, what each row means, and which features and run they came from.

index/
  index.json               what it was built from; names the files of each part, with their checksums and lost videos
  vectors-<sha>.bin        the vectors of a part, row by row, as they lie in memory
  rows-<sha>.safetensors   video number, start and end of each row; names and keys of the videos
  lists-<sha>.bin          the index plug-in's bytes, where the index is more than its vectors
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import CacheError, MissingError, VlaError
from vla.features import FeatureSpec
from vla.hints import Hint
from vla.indexes import registry as indexes
from vla.indexes.base import Index
from vla.indexing import row_table
from vla.indexing.config import IndexBenchmark, IndexConfig
from vla.indexing.fragments import Fragment, FragmentedIndex, iter_blocks
from vla.indexing.index_record import SCHEMA, IndexRecord, PartRecord
from vla.indexing.vector_files import check_vectors, keep, keep_vectors, open_memmap, sibling
from vla.storage import atomic, records

_TRIES = 5
_WAY_ON = Hint("index")
_FILES = ("vectors", "vectors_sha256", "kind", "rows", "rows_sha256", "lists", "lists_sha256", "bytes")


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """Segments of videos, ready to be searched.

    Attributes:
        parts: the segments.
        dim: width of their vectors.
        spec: the feature space.
        run: name of the trained run whose projector made the vectors; empty for the frozen encoder.
        run_digest: digest of its weights.
        cache_state: `FeatureCache.state()` when it was brought up to date; empty while that goes on.
        asked: what it is to be.
        measured: what was measured of its largest part and of what that could have been.
        cut: how videos were cut into segments, see `vla.indexing.segments`; empty where an older version did.
    """

    parts: tuple[Fragment, ...]
    dim: int
    spec: FeatureSpec
    run: str
    run_digest: str
    cache_state: str
    asked: IndexConfig = IndexConfig()  # noqa: RUF009 - it is frozen
    measured: tuple[IndexBenchmark, ...] = ()
    cut: str = ""

    @cached_property
    def vectors(self) -> FragmentedIndex:
        """All parts as one index; its ids are rows of the arrays below."""
        return FragmentedIndex(self.parts, self.dim)

    @cached_property
    def video_of_row(self) -> np.ndarray:
        """`(N,)` int32, positions in `videos`; -1 for rows that are never found, because their video is gone."""
        found, first = [], 0
        for part in self.parts:
            number = np.full(len(part.videos), -1, np.int32)
            for place, (position, _, _) in enumerate(part.held(), first):
                number[position] = place
            first += int((number >= 0).sum())
            found.append(number[part.video_of_row])
        return np.concatenate(found) if found else np.zeros(0, np.int32)

    @cached_property
    def spans(self) -> np.ndarray:
        """`(N, 2)` float64 seconds."""
        return np.concatenate([np.zeros((0, 2)), *(p.spans for p in self.parts)])

    @cached_property
    def videos(self) -> list[str]:
        """Names of the videos."""
        return [name for part in self.parts for _, name, _ in part.held()]

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """`(n, E)` float32: the vectors of these rows; of float16 precision, as they are kept."""
        found = np.empty((len(rows), self.dim), np.float32)
        first = 0
        for part in self.parts:
            mine = (rows >= first) & (rows < first + len(part.spans))
            found[mine] = part.vectors[rows[mine] - first]
            first += len(part.spans)
        return found

    @property
    def bytes_loaded(self) -> int:
        """What its indexes take in memory once they are loaded; vectors that are only mapped do not count."""
        return sum(int(p.files["bytes"]) for p in self.parts)

    @property
    def backend(self) -> str:
        """Name of the plug-in of the largest part."""
        return max(self.parts, key=lambda p: len(p.spans)).backend if self.parts else ""


def save_index(folder: Path, index: SearchIndex) -> SearchIndex:
    """Commit `index` to `folder`; searches see the old one until the new one is whole. Returns it as it lies there."""
    kept = replace(index, parts=tuple(save_fragment(folder, part, index.dim) for part in index.parts))
    atomic.write_json(
        folder / "index.json",
        {
            "schema": SCHEMA, "dim": kept.dim, "videos": len(kept.videos), "segments": len(kept.vectors),
            "spec": kept.spec.to_json(), "run": kept.run, "run_digest": kept.run_digest, "backend": kept.backend,
            "cache_state": kept.cache_state, "asked": kept.asked.__dict__, "parts": [_record(part) for part in kept.parts],
            "measured": [row.__dict__ for row in kept.measured], "cut": kept.cut,
        },
    )  # fmt: skip
    remove_orphans(folder)
    return kept


def remove_orphans(folder: Path) -> None:
    """Delete what the index in `folder` does not name. Whoever calls holds the index, so nobody else is about to name it."""
    for old in unused_files(folder):
        atomic.unlink_quietly(old)


def save_fragment(folder: Path, part: Fragment, dim: int) -> Fragment:
    """`part` with its files in `folder`, written where they are not there yet. No search sees it before `save_index`."""
    files = dict(part.files)
    if "vectors" not in files:
        files |= keep_vectors(
            folder, lambda: (block for _, block in iter_blocks(part.vectors)), part.vectors.dtype.name
        )
    if "rows" not in files:
        files |= keep(folder, "rows", ".safetensors", row_table.to_bytes(part))
        # An exact index is its vectors, and made of them when it is loaded.
        is_exact = indexes.get(part.backend).is_exact
        content = b"" if is_exact else part.index.to_bytes()
        files |= {"lists": "", "lists_sha256": ""} if is_exact else keep(folder, "lists", ".bin", content)
        files["bytes"] = len(content) * indexes.get(part.backend).memory_factor or len(part.spans) * dim * 4
    if files == part.files:
        return part
    whole = replace(part, files=files)
    make = partial(_loaded, folder, _record(whole), len(part.spans), dim)
    return replace(whole, make=make, vectors=open_memmap(folder, files, len(part.spans), dim))


def _record(part: Fragment) -> dict[str, Any]:
    """What the index says of `part`."""
    state = {"backend": part.backend, "depth": part.depth, "segments": len(part.spans), "gone": sorted(part.gone)}
    return {**part.files, **state, "renamed": {str(place): name for place, name in sorted(part.renamed.items())}}


@dataclass(frozen=True)
class IndexSummary:
    """What an index says of itself; the attributes are those of `SearchIndex`, and `segments` the number of its rows."""

    spec: FeatureSpec
    videos: int
    segments: int
    run: str
    run_digest: str
    cache_state: str
    backend: str


def summary(folder: Path) -> IndexSummary:
    """Of the index in `folder`, without reading its vectors; raises as `open_index` does."""
    record, spec = _read_record(folder)
    return IndexSummary(
        spec, record.videos, record.segments, record.run, record.run_digest, record.cache_state, record.backend
    )


def unused_files(folder: Path) -> list[Path]:
    """Files in `folder` that its index does not name: what a kill left."""
    try:
        named = {name for part in _read_record(folder)[0].parts for name in (part.vectors, part.rows, part.lists)}
    except VlaError:  # nobody knows what is needed
        return []
    return [p for pattern in ("vectors-*", "rows-*", "lists-*") for p in folder.glob(pattern) if p.name not in named]


def _read_record(folder: Path) -> tuple[IndexRecord, FeatureSpec]:
    path = folder / "index.json"
    if not path.is_file():
        raise MissingError("there is no index yet", hint=Hint("index"))
    stored = atomic.read_record(path, _WAY_ON)
    version = stored.value.get("schema") if isinstance(stored.value, dict) else None
    if type(version) is int and version < SCHEMA:
        raise CacheError(f"{path} was written by an older vla (schema {version})", hint=_WAY_ON)
    record = records.decode(IndexRecord, stored.value, str(path), _WAY_ON, schema=SCHEMA, strict=not stored.is_checked)
    return record, FeatureSpec.from_json(record.spec, str(path))


def _damaged(folder: Path, error: Exception) -> CacheError:
    return CacheError(f"{folder / 'index.json'} is damaged ({error})", hint=_WAY_ON)


def open_index(folder: Path, *, load: bool = True) -> SearchIndex:
    """The index in `folder`; raises MissingError if there is none, CacheError if it is damaged, too old or too new.

    Args:
        folder: where it lies.
        load: have everything in memory that a search needs. Else it is read when it is first needed, for those who only want
            to know what the index holds.
    """
    for _ in range(_TRIES):
        record, spec = _read_record(folder)
        try:
            index = _opened(folder, record, spec)
            for part in index.parts if load else ():
                _ = part.index
            return index
        except CacheError:
            # Another process may have put a new index in the place of the one whose files were being read.
            if _read_record(folder)[0] == record:
                raise
    raise CacheError(f"{folder} changes faster than it can be read", hint=Hint("wait_for_index"))


def check_index(folder: Path) -> None:
    """Raises as `open_index` does unless every byte of the index in `folder` is as it was written."""
    for part in open_index(folder).parts:
        check_vectors(folder, part.files)


def _opened(folder: Path, record: IndexRecord, spec: FeatureSpec) -> SearchIndex:
    parts = tuple(_part(folder, part, record.dim) for part in record.parts)
    return SearchIndex(
        parts, record.dim, spec, record.run, record.run_digest, record.cache_state, record.asked,
        tuple(record.measured), record.cut,
    )  # fmt: skip


def _part(folder: Path, record: PartRecord, dim: int) -> Fragment:
    if record.backend not in indexes.names():
        raise CacheError(
            f"{folder / 'index.json'} needs the index plug-in {record.backend!r}, which is not here", hint=_WAY_ON
        )
    segments = record.segments
    files = {name: getattr(record, name) for name in _FILES}
    vectors = open_memmap(folder, files, segments, dim)
    content = atomic.read_checked(sibling(folder, record.rows), record.rows_sha256, _WAY_ON)
    rows = row_table.from_bytes(content, folder / record.rows)
    renamed = {int(place): name for place, name in record.renamed.items()}
    known = range(len(rows.videos))
    if len(rows.spans) != segments or not all(place in known for place in {*record.gone, *renamed}):
        raise CacheError(f"{folder / 'index.json'}: vectors, rows and videos do not fit together", hint=Hint("index"))
    make = partial(_loaded, folder, {**files, "backend": record.backend}, segments, dim)
    held = (rows.video_of_row, rows.spans, rows.videos, rows.keys)
    return Fragment(record.backend, make, vectors, *held, record.depth, record.gone, renamed, files)


def _loaded(folder: Path, record: dict[str, Any], segments: int, dim: int) -> Index:
    """The index of a part; what it is made of is checked first."""
    try:
        if record["lists"]:
            content = atomic.read_checked(sibling(folder, record["lists"]), record["lists_sha256"], _WAY_ON)
            index: Index = indexes.get(record["backend"]).from_bytes(content)
        else:
            content = atomic.read_checked(sibling(folder, record["vectors"]), record["vectors_sha256"], _WAY_ON)
            index = indexes.build(record["backend"], dim=dim)
            index.add(
                np.arange(segments), np.frombuffer(content, record["kind"]).reshape(segments, dim).astype(np.float32)
            )
    except CacheError:
        raise
    except (VlaError, ValueError) as error:
        raise _damaged(folder, error) from error
    if index.dim != dim or len(index) != segments:
        raise CacheError(
            f"{folder / 'index.json'}: vectors, rows and videos do not fit together ({len(index)} rows of {index.dim} numbers, "
            f"not {segments} of {dim})",
            hint=Hint("index"),
        )
    return index
