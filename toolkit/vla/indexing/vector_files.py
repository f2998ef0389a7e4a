"""Files of the fragments of an index.

Vectors, which are mapped into memory, and all else, which is read and verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import CacheError
from vla.hints import Hint
from vla.storage import atomic

_KINDS = ("float32", "float16")


def save_vectors(
    folder: Path, vectors: Callable[[], Iterable[np.ndarray]], kind: str
) -> dict[str, Any]:
    """Write the blocks of `vectors()` as numbers of `kind`, and return the record of the file.

    `vectors` is called twice: for the digest of the content, which is the name of the file, and for
    the content.
    """
    digest = hashlib.sha256()
    for block in vectors():
        digest.update(np.ascontiguousarray(block.astype(kind)).data)
    name = f"vectors-{digest.hexdigest()[:16]}.bin"
    with atomic.open_atomic(folder / name) as file:
        for block in vectors():
            file.write(np.ascontiguousarray(block.astype(kind)).data)
    return {"vectors": name, "vectors_sha256": digest.hexdigest(), "kind": kind}


def save_file(folder: Path, kind: str, suffix: str, content: bytes) -> dict[str, str]:
    """Write `content` under a name with its digest, and return the record of the file."""
    digest = atomic.sha256(content)
    name = f"{kind}-{digest[:16]}{suffix}"
    atomic.write_bytes(folder / name, content)
    return {kind: name, f"{kind}_sha256": digest}


def check_vectors(folder: Path, files: Mapping[str, Any]) -> None:
    """Raise CacheError if the file of vectors is damaged.

    Searches do not check that: they map it and read few rows.
    """
    path = sibling(folder, files["vectors"])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CacheError(
            f"{path} cannot be read ({error.strerror or error})", hint=Hint("index")
        ) from error
    if digest != files["vectors_sha256"]:
        raise CacheError(
            f"{path} was altered since it was written (its checksum differs)", hint=Hint("index")
        )


def open_memmap(folder: Path, files: Mapping[str, Any], segments: int, dim: int) -> np.ndarray:
    """Return the vectors `(segments, dim)`, mapped from the file.

    Raises CacheError if its size is not right.
    """
    path = sibling(folder, files["vectors"])
    if files["kind"] not in _KINDS or segments < 1 or dim < 1:
        raise CacheError(
            f"{folder / 'index.json'} is damaged (vectors of kind {files['kind']!r})",
            hint=Hint("index"),
        )
    size = segments * dim * np.dtype(files["kind"]).itemsize
    try:
        actual_size = path.stat().st_size
        if actual_size != size:
            raise CacheError(
                f"{path} was altered since it was written ({actual_size} bytes, not {size})",
                hint=Hint("index"),
            )
        return np.memmap(path, files["kind"], "r", shape=(segments, dim))
    except FileNotFoundError as error:
        raise CacheError(f"{path} is gone", hint=Hint("index")) from error
    except (OSError, ValueError) as error:
        raise CacheError(f"{path} cannot be read: {error}") from error


def sibling(folder: Path, name: Any) -> Path:
    """Return the path of `name` in `folder`.

    Raises CacheError for a name that leads out of the folder.
    """
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise CacheError(f"{folder / 'index.json'} names a file outside its folder: {name!r}")
    return folder / name
