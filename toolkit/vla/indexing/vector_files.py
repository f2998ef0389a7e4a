"""The files of an index's parts: vectors, which may be mapped, and everything else, which is read whole and checked."""

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


def keep_vectors(folder: Path, vectors: Callable[[], Iterable[np.ndarray]], kind: str) -> dict[str, Any]:
    """Write what `vectors()` gives, block by block, as numbers of `kind`. Returns what the index says of the file.

    `vectors` is called twice: for the name, which is the content's, and for the content.
    """
    digest = hashlib.sha256()
    for block in vectors():
        digest.update(np.ascontiguousarray(block.astype(kind)).data)
    name = f"vectors-{digest.hexdigest()[:16]}.bin"
    with atomic.open_atomic(folder / name) as file:
        for block in vectors():
            file.write(np.ascontiguousarray(block.astype(kind)).data)
    return {"vectors": name, "vectors_sha256": digest.hexdigest(), "kind": kind}


def keep(folder: Path, kind: str, suffix: str, content: bytes) -> dict[str, str]:
    """Write `content` under a name that is its own. Returns what the index says of the file."""
    digest = atomic.sha256(content)
    name = f"{kind}-{digest[:16]}{suffix}"
    atomic.write_bytes(folder / name, content)
    return {kind: name, f"{kind}_sha256": digest}


def check_vectors(folder: Path, files: Mapping[str, Any]) -> None:
    """Raises CacheError unless the vectors in `files` are those that were written. Searches map them, and look at few."""
    path = sibling(folder, files["vectors"])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CacheError(f"{path} cannot be read ({error.strerror or error})", hint=Hint("index")) from error
    if digest != files["vectors_sha256"]:
        raise CacheError(f"{path} was altered since it was written (its checksum differs)", hint=Hint("index"))


def open_memmap(folder: Path, files: Mapping[str, Any], segments: int, dim: int) -> np.ndarray:
    """`(segments, dim)`: the vectors in `files`, which stay on the disk; raises CacheError if there are not as many."""
    path = sibling(folder, files["vectors"])
    if files["kind"] not in _KINDS or segments < 1 or dim < 1:
        raise CacheError(f"{folder / 'index.json'} is damaged (vectors of kind {files['kind']!r})", hint=Hint("index"))
    size = segments * dim * np.dtype(files["kind"]).itemsize
    try:
        there = path.stat().st_size
        if there != size:
            raise CacheError(f"{path} was altered since it was written ({there} bytes, not {size})", hint=Hint("index"))
        return np.memmap(path, files["kind"], "r", shape=(segments, dim))
    except FileNotFoundError as error:
        raise CacheError(f"{path} is gone", hint=Hint("index")) from error
    except (OSError, ValueError) as error:
        raise CacheError(f"{path} cannot be read: {error}") from error


def sibling(folder: Path, name: Any) -> Path:
    """The file called `name` in `folder`; raises CacheError for a name that leads elsewhere."""
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise CacheError(f"{folder / 'index.json'} names a file outside its folder: {name!r}")
    return folder / name
