"""The index on disk: vectors, what each row means, and which features and run they came from.

index/
  index.json              what it was built from; names the two files, with their checksums
  vectors-<sha>.bin       the index plug-in's bytes
  rows-<sha>.safetensors  video number, start and end of each row
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla import durable
from vla.errors import CacheError, MissingError
from vla.features import FeatureSpec
from vla.indexes import registry as indexes
from vla.indexes.base import Index

SCHEMA = 1


@dataclass(frozen=True)
class SearchIndex:
    """Segments of videos, ready to be searched.

    Attributes:
        vectors: the index; its ids are rows of the arrays below.
        video_of_row: `(N,)` int32, positions in `videos`.
        spans: `(N, 2)` float64 seconds.
        videos: names of the videos, in order.
        spec: the feature space.
        run: name of the trained run whose projector made the vectors; empty for the frozen encoder.
        run_digest: digest of its weights.
        cache_state: `FeatureCache.state()` when it was built.
        backend: name of the index plug-in.
    """

    vectors: Index
    video_of_row: np.ndarray
    spans: np.ndarray
    videos: list[str]
    spec: FeatureSpec
    run: str
    run_digest: str
    cache_state: str
    backend: str


def save_index(folder: Path, index: SearchIndex) -> None:
    """Commit `index` to `folder`; searches see the old one until the new one is whole."""
    from safetensors.numpy import save

    content = index.vectors.to_bytes()
    rows = save({"video_of_row": index.video_of_row.astype(np.int32), "spans": index.spans.astype(np.float64)})
    names = [f"vectors-{durable.sha256(content)[:16]}.bin", f"rows-{durable.sha256(rows)[:16]}.safetensors"]
    durable.write_bytes(folder / names[0], content)
    durable.write_bytes(folder / names[1], rows)
    durable.write_json(
        folder / "index.json",
        {
            "schema": SCHEMA,
            "vectors": names[0],
            "vectors_sha256": durable.sha256(content),
            "rows": names[1],
            "rows_sha256": durable.sha256(rows),
            "videos": index.videos,
            "segments": len(index.video_of_row),
            "spec": index.spec.to_json(),
            "run": index.run,
            "run_digest": index.run_digest,
            "cache_state": index.cache_state,
            "backend": index.backend,
        },
    )
    for old in [*folder.glob("vectors-*"), *folder.glob("rows-*")]:
        if old.name not in names:
            durable.discard(old)


@dataclass(frozen=True)
class IndexSummary:
    """What an index says of itself; the attributes are those of `SearchIndex`, and `segments` the number of its rows."""

    spec: FeatureSpec
    videos: int
    segments: int
    run: str
    cache_state: str
    backend: str


def summary(folder: Path) -> IndexSummary:
    """Of the index in `folder`, without reading its vectors; raises as `open_index` does."""
    record, spec = _read_record(folder)
    try:
        run, state, backend = (str(record[k]) for k in ("run", "cache_state", "backend"))
        return IndexSummary(spec, len(record["videos"]), int(record["segments"]), run, state, backend)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error


def _read_record(folder: Path) -> tuple[dict[str, Any], FeatureSpec]:
    path = folder / "index.json"
    if not path.is_file():
        raise MissingError("there is no index yet: run 'vla index' first")
    record = durable.read_json(path)
    try:
        if record["schema"] > SCHEMA:
            raise CacheError(f"{path} was written by a newer vla (schema {record['schema']}): upgrade vla")
        return record, FeatureSpec.from_json(record["spec"], str(path))
    except (KeyError, TypeError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> CacheError:
    return CacheError(f"{folder / 'index.json'} is damaged ({error!r}): run 'vla index' again")


def open_index(folder: Path) -> SearchIndex:
    """The index in `folder`; raises MissingError if there is none, CacheError if it is damaged or too new."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / "index.json"
    record, spec = _read_record(folder)
    try:
        vectors = durable.read_checked(_beside(path, record, "vectors"), record["vectors_sha256"])
        rows = load(durable.read_checked(_beside(path, record, "rows"), record["rows_sha256"]))
        index = SearchIndex(
            indexes.get(record["backend"]).from_bytes(vectors),
            rows["video_of_row"],
            rows["spans"],
            [str(v) for v in record["videos"]],
            spec,
            record["run"],
            record["run_digest"],
            record["cache_state"],
            record["backend"],
        )
    except (KeyError, TypeError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    owners, spans = index.video_of_row, index.spans
    fits = (
        owners.dtype == np.int32
        and spans.dtype == np.float64
        and owners.shape == (len(index.vectors),)
        and spans.shape == (len(owners), 2)
        and np.isfinite(spans).all()
        and (spans[:, 0] <= spans[:, 1]).all()
        and (not len(owners) or 0 <= owners.min() <= owners.max() < len(index.videos))
    )
    if not fits:
        raise CacheError(f"{path}: vectors, rows and videos do not fit together: run 'vla index' again")
    return index


def _beside(path: Path, record: dict[str, Any], key: str) -> Path:
    name = str(record[key])
    if Path(name).name != name:
        raise CacheError(f"{path} names a file outside its folder: {name!r}")
    return path.parent / name
