"""A background on disk, beside the index that it was measured on.

index/
  background.json               what it is of, and how long moments last; names the file, with its checksum
  background-<sha>.safetensors  bias of each row, best scores of the bank, its mean
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vla.errors import CacheError
from vla.hints import Hint
from vla.indexing.store import SearchIndex
from vla.retrieval.hubness import Background
from vla.storage import atomic, records
from vla.storage.records import Digest, FileName, Seconds

SCHEMA = 2
_NAME = "background.json"
_WAY_ON = Hint("search_again")


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


def check_background(folder: Path) -> None:
    """Raises CacheError if the background in `folder` is not as it was written; nothing if there is none."""
    if (folder / _NAME).is_file():
        record = records.load(_Kept, folder / _NAME, _WAY_ON)
        atomic.read_checked(folder / record.file, record.sha256, _WAY_ON)


def forget_background(folder: Path) -> None:
    """Delete the background in `folder`; the next search makes it anew."""
    atomic.remove(folder / _NAME)


def save_background(folder: Path, background: Background, of: dict[str, str]) -> None:
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
            atomic.discard(old)


def open_background(folder: Path, of: dict[str, str], rows: int, dim: int) -> Background | None:
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
        found = Background(arrays["bias"], arrays["chance"], arrays["mean"], lasting)
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
