"""Storage of a calibration next to the index that it was estimated from.

index/
  calibration.json               inputs of the estimate and duration range; name and checksum of the other file
  calibration-<sha>.safetensors  the arrays of `Calibration`, by the names of its attributes
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, ResourceError
from vla.hints import Hint, Note
from vla.indexing.search_index import SearchIndex
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.calibration import Calibration
from vla.retrieval.calibration_estimate import calibrate_index
from vla.retrieval.duration_prior import estimate_duration_range
from vla.retrieval.query_bank import choose_query_bank, default_queries
from vla.storage import atomic, records
from vla.storage.records import Digest, FileName, Seconds, between
from vla.storage.workspace import Workspace

if TYPE_CHECKING:
    from vla.model import AlignmentModel

SCHEMA = 3
_NAME = "calibration.json"
_ARRAYS = ("video_center", "query_center", "row_norms", "mean_norms", "null_scores")
_OLD_FILES = "background*"
"""Files of the schema before, which corrected hubness."""
_WAY_ON = Hint("search_again")


def load_or_calibrate(
    workspace: Workspace,
    index: SearchIndex,
    cache: FeatureCache,
    model: AlignmentModel,
    encoder: TextEncoder,
    progress: ProgressCallback = silent,
) -> Calibration | None:
    """Return the calibration of `index`. Without a valid stored one, fit it and store it.

    Returns None without a query bank, and while the index is out of date, because its sources are
    no longer available.
    """
    if index.cache_state != cache.state() or not len(index.video_of_row):
        return None
    key = identity(index, _bank_digest(workspace))
    calibration = load_calibration(
        workspace.index, key, len(index.video_of_row), len(index.videos), index.dim
    )
    if calibration is not None:
        return calibration
    calibration = _fit(workspace, index, cache, model, encoder, progress)
    if calibration is not None:
        try:
            with workspace.lock_index(progress):
                save_calibration(workspace.index, calibration, key)
        except ResourceError:
            # A workspace that cannot be written can still be searched.
            pass
    return calibration


def _fit(
    workspace: Workspace,
    index: SearchIndex,
    cache: FeatureCache,
    model: AlignmentModel,
    encoder: TextEncoder,
    progress: ProgressCallback,
) -> Calibration | None:
    def notify(message: str, level: Literal["note", "warning"]) -> None:
        progress(Progress("search", message=message, level=level))

    captions = caption_store.load_unique(
        workspace, lambda damage: notify(f"{damage} (left out)", "warning")
    )
    bank = choose_query_bank(captions, index.videos, cache)
    if len(bank.texts) < 2:
        return None
    notify(
        f"comparing the index with {len(bank.texts):,} reference queries for confidences (once)",
        "note",
    )
    vectors = bank.encode(cache, model, encoder)
    try:
        calibration = calibrate_index(index, bank, vectors, progress)
    except CacheError as error:
        notify(Note(f"{error}; hits have no confidence", error.hint), "warning")
        return None
    duration_range = estimate_duration_range(captions, cache.receipts)
    if duration_range is not None:
        shortest, longest = duration_range
        text = f"captioned moments last {shortest:.1f} to {longest:.1f} s; searches prefer moments of this duration"
        notify(Note(text, Hint("any_length")), "note")
    return replace(calibration, duration_range=duration_range)


def _bank_digest(workspace: Workspace) -> str:
    """Return a digest of the queries that a bank may consist of, without parsing them."""
    captions = workspace.captions.read_bytes() if workspace.captions.is_file() else b""
    return atomic.sha256(captions + "\n".join(default_queries().texts).encode())


def identity(index: SearchIndex, bank: str) -> dict[str, str]:
    """Return the inputs of a calibration.

    Features, run, state of the cache, rows of the index, digest of the bank.
    """
    rows = index.video_of_row.astype("<i4").tobytes() + index.spans.astype("<f8").tobytes()
    names = "\n".join(index.videos).encode("utf-8", "surrogatepass")
    return {
        "fingerprint": index.spec.fingerprint,
        "run": index.run_digest,
        "cache_state": index.cache_state,
        "rows": atomic.sha256(rows + names),
        "bank": bank,
    }


@dataclass(frozen=True)
class _Record:
    """Contents of `calibration.json`."""

    schema: Literal[SCHEMA]  # type: ignore[valid-type]
    of: dict[str, str]
    lasting: tuple[Seconds, Seconds] | None
    video_weight: Annotated[float, between(0, 1_000_000)]
    file: FileName
    sha256: Digest


def check_calibration(folder: Path) -> None:
    """Raise CacheError if the calibration in `folder` is damaged.

    Do nothing if there is none.
    """
    if (folder / _NAME).is_file():
        record = records.load(_Record, folder / _NAME, _WAY_ON)
        atomic.read_bytes(folder / record.file, record.sha256, _WAY_ON)


def delete_calibration(folder: Path) -> None:
    """Delete the calibration in `folder`; the next search fits it again."""
    atomic.remove(folder / _NAME)


def save_calibration(folder: Path, calibration: Calibration, key: dict[str, str]) -> None:
    """Commit `calibration` to `folder`, with its inputs `key` (see `identity`), and delete the
    previous one.
    """
    from safetensors.numpy import save

    arrays = {name: getattr(calibration, name) for name in _ARRAYS}
    content = save({name: values.astype(np.float32) for name, values in arrays.items()})
    name = f"calibration-{atomic.sha256(content)[:16]}.safetensors"
    atomic.write_bytes(folder / name, content)
    record = {
        "schema": SCHEMA,
        "of": key,
        "lasting": calibration.duration_range,
        "video_weight": calibration.video_weight,
        "file": name,
        "sha256": atomic.sha256(content),
    }
    atomic.write_json(folder / _NAME, record)
    for old in (*folder.glob("calibration-*"), *folder.glob(_OLD_FILES)):
        if old.name != name:
            atomic.unlink_quietly(old)


def load_calibration(
    folder: Path, key: dict[str, str], num_rows: int, num_videos: int, dim: int
) -> Calibration | None:
    """Return the calibration in `folder`.

    None if there is none, if its inputs are not `key`, or if it is damaged.

    Args:
        folder: folder of the index.
        key: required inputs, see `identity`.
        num_rows: number of rows of the index.
        num_videos: number of its videos.
        dim: width of its vectors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / _NAME
    if not path.is_file():
        return None
    try:
        record = records.load(_Record, path)
        if record.of != key:
            return None
        arrays = load(atomic.read_bytes(folder / record.file, record.sha256))
        calibration = Calibration(
            **{name: arrays[name] for name in _ARRAYS},
            video_weight=record.video_weight,
            duration_range=record.lasting,
        )
    except (CacheError, SafetensorError, KeyError, ValueError):
        return None
    values, duration = [getattr(calibration, name) for name in _ARRAYS], calibration.duration_range
    is_valid = (
        all(v.dtype == np.float32 and np.isfinite(v).all() for v in values)
        and calibration.video_center.shape == calibration.query_center.shape == (dim,)
        and calibration.row_norms.shape == (num_rows,)
        and (calibration.row_norms >= 0).all()
        and calibration.mean_norms.shape == (num_videos,)
        and (calibration.mean_norms >= 0).all()
        and calibration.null_scores.ndim == 1
        and len(calibration.null_scores) > 1
        and (np.diff(calibration.null_scores) >= 0).all()
        and (duration is None or 0 <= duration[0] <= duration[1] < np.inf)
    )
    return calibration if is_valid else None
