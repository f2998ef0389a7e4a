"""Storage of an index: its fragments, the meaning of their rows, and what they were built from.

index/
  index.json               sources of the index; files of each fragment with checksums, and its deleted videos
  vectors-<sha>.bin        vectors of a fragment, row by row, as in memory
  rows-<sha>.safetensors   video number, start and end of each row; names and keys of the videos
  lists-<sha>.bin          bytes of the index plug-in, unless its vectors are enough
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import CacheError, VlaError
from vla.features import FeatureSpec
from vla.hints import Hint
from vla.indexes import registry as indexes
from vla.indexes.base import Index
from vla.indexing import row_table
from vla.indexing.fragments import Fragment, iter_blocks
from vla.indexing.index_record import SCHEMA, IndexRecord, PartRecord, read_record, unused_files
from vla.indexing.search_index import SearchIndex
from vla.indexing.vector_files import check_vectors, open_memmap, save_file, save_vectors, sibling
from vla.storage import atomic

_TRIES = 5
_WAY_ON = Hint("index")
_FILES = (
    "vectors",
    "vectors_sha256",
    "kind",
    "rows",
    "rows_sha256",
    "lists",
    "lists_sha256",
    "bytes",
)


def save_index(folder: Path, index: SearchIndex) -> SearchIndex:
    """Commit `index` to `folder` and return it with its files.

    Searches see the old index until the commit is complete.
    """
    index = replace(
        index, parts=tuple(save_fragment(folder, part, index.dim) for part in index.parts)
    )
    atomic.write_json(
        folder / "index.json",
        {
            "schema": SCHEMA,
            "dim": index.dim,
            "videos": len(index.videos),
            "segments": len(index.vectors),
            "spec": index.spec.to_json(),
            "run": index.run,
            "run_digest": index.run_digest,
            "backend": index.backend,
            "cache_state": index.cache_state,
            "asked": index.config.__dict__,
            "parts": [_record(part) for part in index.parts],
            "measured": [row.__dict__ for row in index.benchmarks],
            "cut": index.segmentation,
        },
    )
    remove_orphans(folder)
    return index


def remove_orphans(folder: Path) -> None:
    """Delete files that the index in `folder` does not refer to.

    The caller holds the lock of the index.
    """
    for old in unused_files(folder):
        atomic.unlink_quietly(old)


def save_fragment(folder: Path, part: Fragment, dim: int) -> Fragment:
    """Write the missing files of `part` to `folder` and return it with its files.

    Searches see it after `save_index`.
    """
    files = dict(part.files)
    if "vectors" not in files:
        files |= save_vectors(
            folder,
            lambda: (block for _, block in iter_blocks(part.vectors)),
            part.vectors.dtype.name,
        )
    if "rows" not in files:
        files |= save_file(folder, "rows", ".safetensors", row_table.to_bytes(part))
        # An exact index consists of its vectors, and is built from them when it is loaded.
        is_exact = indexes.get(part.backend).is_exact
        content = b"" if is_exact else part.index.to_bytes()
        files |= (
            {"lists": "", "lists_sha256": ""}
            if is_exact
            else save_file(folder, "lists", ".bin", content)
        )
        files["bytes"] = (
            len(content) * indexes.get(part.backend).memory_factor or len(part.spans) * dim * 4
        )
    if files == part.files:
        return part
    part = replace(part, files=files)
    make = partial(_load_index, folder, _record(part), len(part.spans), dim)
    return replace(part, make=make, vectors=open_memmap(folder, files, len(part.spans), dim))


def _record(part: Fragment) -> dict[str, Any]:
    """Return the record of `part` in `index.json`; see `PartRecord`."""
    state = {
        "backend": part.backend,
        "depth": part.depth,
        "segments": len(part.spans),
        "gone": sorted(part.deleted),
    }
    return {
        **part.files,
        **state,
        "renamed": {str(position): name for position, name in sorted(part.renamed.items())},
    }


def _damage_error(folder: Path, error: Exception) -> CacheError:
    return CacheError(f"{folder / 'index.json'} is damaged ({error})", hint=_WAY_ON)


def open_index(folder: Path, *, load: bool = True) -> SearchIndex:
    """Open the index in `folder`.

    Args:
        folder: folder of the index.
        load: load everything that a search needs. Otherwise it is loaded at its first use, which is
            enough to inspect the contents of the index.

    Raises:
        MissingError: there is no index.
        CacheError: the index is damaged, or of an older or newer version.
    """
    for _ in range(_TRIES):
        record, spec = read_record(folder)
        try:
            index = _open(folder, record, spec)
            for part in index.parts if load else ():
                _ = part.index
            return index
        except CacheError:
            # Another process may have replaced the index while its files were being read.
            if read_record(folder)[0] == record:
                raise
    raise CacheError(f"{folder} changes faster than it can be read", hint=Hint("wait_for_index"))


def check_index(folder: Path) -> None:
    """Verify the checksums of all files of the index in `folder`; raises as `open_index`."""
    for part in open_index(folder).parts:
        check_vectors(folder, part.files)


def _open(folder: Path, record: IndexRecord, spec: FeatureSpec) -> SearchIndex:
    parts = tuple(_fragment(folder, part, record.dim) for part in record.parts)
    return SearchIndex(
        parts,
        record.dim,
        spec,
        record.run,
        record.run_digest,
        record.cache_state,
        record.asked,
        tuple(record.measured),
        record.cut,
    )


def _fragment(folder: Path, record: PartRecord, dim: int) -> Fragment:
    if record.backend not in indexes.names():
        raise CacheError(
            f"{folder / 'index.json'} needs the index plug-in {record.backend!r}, "
            "which is not here",
            hint=_WAY_ON,
        )
    segments = record.segments
    files = {name: getattr(record, name) for name in _FILES}
    vectors = open_memmap(folder, files, segments, dim)
    content = atomic.read_bytes(sibling(folder, record.rows), record.rows_sha256, _WAY_ON)
    rows = row_table.from_bytes(content, folder / record.rows)
    renamed = {int(position): name for position, name in record.renamed.items()}
    positions = range(len(rows.videos))
    if len(rows.spans) != segments or not all(
        position in positions for position in {*record.gone, *renamed}
    ):
        raise CacheError(
            f"{folder / 'index.json'}: vectors, rows and videos do not fit together",
            hint=_WAY_ON,
        )
    make = partial(_load_index, folder, {**files, "backend": record.backend}, segments, dim)
    return Fragment(record.backend, make, vectors, *rows, record.depth, record.gone, renamed, files)


def _load_index(folder: Path, record: dict[str, Any], segments: int, dim: int) -> Index:
    """Return the index of a fragment, after verifying the checksums of its files."""
    try:
        if record["lists"]:
            content = atomic.read_bytes(
                sibling(folder, record["lists"]), record["lists_sha256"], _WAY_ON
            )
            index: Index = indexes.get(record["backend"]).from_bytes(content)
        else:
            content = atomic.read_bytes(
                sibling(folder, record["vectors"]), record["vectors_sha256"], _WAY_ON
            )
            index = indexes.build(record["backend"], dim=dim)
            index.add(
                np.arange(segments),
                np.frombuffer(content, record["kind"]).reshape(segments, dim).astype(np.float32),
            )
    except CacheError:
        raise
    except (VlaError, ValueError) as error:
        raise _damage_error(folder, error) from error
    if index.dim != dim or len(index) != segments:
        raise CacheError(
            f"{folder / 'index.json'}: vectors, rows and videos do not fit together "
            f"({len(index)} rows of {index.dim} numbers, not {segments} of {dim})",
            hint=_WAY_ON,
        )
    return index
