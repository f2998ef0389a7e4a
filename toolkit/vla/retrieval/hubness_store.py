"""A background on disk, beside the index that it was measured on.

index/
  background.json               what it is of, and how long moments last; names the file, with its checksum
  background-<sha>.safetensors  bias of each row, best scores of the bank, its mean
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, ResourceError
from vla.hints import Hint, Note
from vla.indexing.store import SearchIndex
from vla.model import AlignmentModel
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.duration_prior import estimate_duration_range
from vla.retrieval.hubness import HubnessCorrection, fit_hubness
from vla.retrieval.query_bank import choose_query_bank, default_queries
from vla.storage import atomic, records
from vla.storage.records import Digest, FileName, Seconds
from vla.storage.workspace import Workspace

SCHEMA = 2
_NAME = "background.json"
_WAY_ON = Hint("search_again")


def load_or_fit_hubness(
    workspace: Workspace,
    index: SearchIndex,
    cache: FeatureCache,
    model: AlignmentModel,
    encoder: TextEncoder,
    progress: ProgressCallback = silent,
) -> HubnessCorrection | None:
    """Return the background of `index`, fitted and saved where none is kept that fits; None with nothing to compare with.

    Also None while the index is out of date: what it was built from is not there any more.
    """
    if index.cache_state != cache.state() or not len(index.video_of_row):
        return None
    of = identity(index, _digest(workspace))
    kept = load_hubness(workspace.index, of, len(index.video_of_row), index.dim)
    if kept is not None:
        return kept
    fitted = _fitted(workspace, index, cache, model, encoder, progress)
    if fitted is not None:
        try:
            with workspace.locked_index(progress):
                save_hubness(workspace.index, fitted, of)
        except ResourceError:
            # A workspace that cannot be written can be searched all the same.
            pass
    return fitted


def _fitted(
    workspace: Workspace,
    index: SearchIndex,
    cache: FeatureCache,
    model: AlignmentModel,
    encoder: TextEncoder,
    progress: ProgressCallback,
) -> HubnessCorrection | None:
    def say(message: str, level: Literal["note", "warning"]) -> None:
        progress(Progress("search", message=message, level=level))

    captions = caption_store.once(workspace, lambda damage: say(f"{damage} (left out)", "warning"))
    bank = choose_query_bank(captions, index.videos, cache)
    if len(bank.texts) < 2:
        return None
    say(f"measuring the index with {len(bank.texts):,} queries, for confidences (once)", "note")
    vectors = bank.encode(cache, model, encoder)
    try:
        fitted = fit_hubness(index, bank, vectors, progress)
    except CacheError as error:
        say(Note(f"{error}; results are not compared with other queries", error.hint), "warning")
        return None
    lasting = estimate_duration_range(captions, cache.receipts)
    if lasting is not None:
        least, most = lasting
        text = f"moments are looked for that last {least:.1f} to {most:.1f} s, as those do that captions tell of"
        say(Note(text, Hint("any_length")), "note")
    return replace(fitted, lasting=lasting)


def _digest(workspace: Workspace) -> str:
    """Of the queries that there are to compare with, without reading them one by one."""
    captions = workspace.captions.read_bytes() if workspace.captions.is_file() else b""
    return atomic.sha256(captions + "\n".join(default_queries().texts).encode())


def identity(index: SearchIndex, bank: str) -> dict[str, str]:
    """What a background depends on: features, run, state of the cache, rows of the index, and `bank`, a digest of its queries."""
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
class _Kept:
    """`background.json`."""

    schema: Literal[SCHEMA]  # type: ignore[valid-type]
    of: dict[str, str]
    lasting: tuple[Seconds, Seconds] | None
    file: FileName
    sha256: Digest


def check_hubness(folder: Path) -> None:
    """Raises CacheError if the background in `folder` is not as it was written; nothing if there is none."""
    if (folder / _NAME).is_file():
        record = records.load(_Kept, folder / _NAME, _WAY_ON)
        atomic.read_checked(folder / record.file, record.sha256, _WAY_ON)


def delete_hubness(folder: Path) -> None:
    """Delete the background in `folder`; the next search makes it anew."""
    atomic.remove(folder / _NAME)


def save_hubness(folder: Path, background: HubnessCorrection, of: dict[str, str]) -> None:
    """Commit `background`, measured on what `of` says, to `folder`; what was there before goes."""
    from safetensors.numpy import save

    arrays = {"bias": background.bias, "chance": background.chance, "mean": background.mean}
    content = save({name: values.astype(np.float32) for name, values in arrays.items()})
    name = f"background-{atomic.sha256(content)[:16]}.safetensors"
    atomic.write_bytes(folder / name, content)
    record = {
        "schema": SCHEMA,
        "of": of,
        "lasting": background.lasting,
        "file": name,
        "sha256": atomic.sha256(content),
    }
    atomic.write_json(folder / _NAME, record)
    for old in folder.glob("background-*"):
        if old.name != name:
            atomic.unlink_quietly(old)


def load_hubness(folder: Path, of: dict[str, str], rows: int, dim: int) -> HubnessCorrection | None:
    """The background in `folder`, of so many rows and dimensions.

    None, so that it is made anew, if there is none, if it is of something else, or if it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / _NAME
    if not path.is_file():
        return None
    try:
        record = records.load(_Kept, path)
        if record.of != of:
            return None
        arrays = load(atomic.read_checked(folder / record.file, record.sha256))
        lasting = record.lasting
        found = HubnessCorrection(arrays["bias"], arrays["chance"], arrays["mean"], lasting)
    except (CacheError, SafetensorError, KeyError, ValueError):
        return None
    fits = (
        found.bias.dtype == found.chance.dtype == found.mean.dtype == np.float32
        and found.bias.shape == (rows,)
        and found.mean.shape == (dim,)
        and found.chance.ndim == 1
        and len(found.chance) > 1
        and np.isfinite(found.bias).all()
        and np.isfinite(found.chance).all()
        and np.isfinite(found.mean).all()
        and (np.diff(found.chance) >= 0).all()
        and (lasting is None or 0 <= lasting[0] <= lasting[1] < np.inf)
    )
    return found if fits else None
