"""Writing files so that they are either there and whole or not there at all: the one seam for everything we keep.

A file is written under a temporary name in its own folder, synced, and renamed; then the folder is synced. A reader never
sees half a file, a kill leaves at most a stray `.tmp-*`, and whoever lists a folder ignores those.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vla.errors import CacheError, ResourceError, VlaError
from vla.hints import Hint

TEMPORARY = ".tmp-"
_REDO = Hint("make_again")
_SEAL = re.compile(rb'\{\s*"checksum": "([0-9a-f]{16}|[0-9a-f]{64})",')
_EDQUOT = getattr(errno, "EDQUOT", errno.ENOSPC)  # not there on Windows
_FULL = (errno.ENOSPC, _EDQUOT, errno.EFBIG)


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all, replacing what is there.

    Raises:
        ResourceError: it could not be written; says why, with the bytes needed and free where the disk is full.
    """
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(6)}"
    _require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        unlink_quietly(temporary)
        raise _resource_error(path, len(content), error) from error
    except BaseException:
        unlink_quietly(temporary)
        raise


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that lies at `path` when the block ends, and nowhere if it does not end well.

    For what is too large to be held in memory; everything else goes through `write_bytes`.

    Raises:
        ResourceError: it could not be written.
    """
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(6)}"
    _require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
        _sync_folder(path.parent)
    except VlaError:
        unlink_quietly(temporary)
        raise
    except OSError as error:
        size = temporary.stat().st_size if temporary.is_file() else 0
        unlink_quietly(temporary)
        raise _resource_error(path, size, error) from error
    except BaseException:
        unlink_quietly(temporary)
        raise


class Stored(NamedTuple):
    """What a JSON file holds, and whether a checksum in it vouches for that; records of older versions have none."""

    value: Any
    is_checked: bool


def sealed(record: Mapping[str, Any], *, indent: int | None = 1, digits: int = 64) -> bytes:
    """`record` as JSON with a newline. Its first key is `checksum`: the sha256 of all bytes after that key's comma.

    Without `indent` it is one line. `digits` hexadecimal digits of the checksum are kept: 16 for a line, 64 for a file.
    """
    text = json.dumps(record, indent=indent, sort_keys=True)
    if not record:
        return b"{}\n"
    body = ("" if indent else " ").encode() + text[1:].encode("ascii") + b"\n"
    head = b"{\n " if indent else b"{"
    return head + f'"checksum": "{sha256(body)[:digits]}",'.encode() + body


def unsealed(content: bytes, source: str, hint: Hint) -> Stored:
    """What `sealed` was given; also JSON without a checksum.

    Raises:
        CacheError: it is not JSON, or its checksum differs. The message begins with `source`.
    """
    head = _SEAL.match(content)
    if head and head[1].decode() != sha256(content[head.end() :])[: len(head[1])]:
        raise CacheError(f"{source} was altered since it was written (its checksum differs)", hint=hint)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{source} is damaged ({error})", hint=hint) from error
    if isinstance(value, dict) and (value.pop("checksum", None) is not None) != bool(head):
        raise CacheError(
            f"{source} was altered since it was written (its checksum is no longer where it was)", hint=hint
        )
    return Stored(value, bool(head))


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Put `record` at `path` as JSON with a checksum, whole or not at all."""
    write_bytes(path, sealed(record))


def read_record(path: Path, hint: Hint = _REDO) -> Stored:
    """The JSON at `path`, its checksum compared.

    Raises:
        CacheError: it cannot be read, is not JSON, or was altered; its hint is `hint`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    return unsealed(content, str(path), hint)


def read_json(path: Path) -> Any:
    """The value of `read_record`; raises as it does."""
    return read_record(path).value


def holds(path: Path, record: Any) -> bool:
    """True if `path` is a file of `record`; False where it is missing, damaged or of another."""
    try:
        return path.is_file() and read_json(path) == record
    except CacheError:
        return False


def listed(folder: Path, suffix: str = ".json") -> list[Path]:
    """The files in `folder` with names that end with `suffix`, sorted; not those that are still being written."""
    return sorted(p for p in folder.glob(f"*{suffix}") if not p.name.startswith(TEMPORARY))


def remove(path: Path) -> None:
    """Delete the file at `path` if it is there.

    Raises:
        ResourceError: it could not be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot delete {path}: {error.strerror or error}") from error


def unlink_quietly(path: Path) -> None:
    """Delete what nothing refers to any more. Where that fails it stays as waste: what replaced it counts all the same."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_checked(path: Path, digest: str, hint: Hint = _REDO) -> bytes:
    """The bytes at `path`, which have this sha256: checked before anything parses them.

    Raises:
        CacheError: the file is gone or altered, or cannot be read; its hint is `hint`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CacheError(f"{path} is gone", hint=hint) from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    if sha256(content) != digest:
        raise CacheError(f"{path} was altered since it was written (its checksum differs)", hint=hint)
    return content


def _require_replaceable(path: Path) -> None:
    """Refuse what is there and no regular file: a rename would put a file in the place of a device, and root may do that."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # nothing is there, or writing will say what is wrong
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "device, pipe or socket"
        raise ResourceError(f"cannot write {path}: it is a {kind}, and no regular file. Choose another name")


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _resource_error(path: Path, size: int, error: OSError) -> ResourceError:
    if error.errno not in _FULL:
        return ResourceError(f"cannot write {path}: {error.strerror or error}")
    need = f"{_bytes(size)} are needed" if size else "no file can be made"
    if error.errno == errno.EFBIG:
        return ResourceError(
            f"cannot write {path}: {need}, more than the limit on the size of files allows (ulimit -f)"
        )
    try:
        free = f"{_bytes(shutil.disk_usage(path.parent).free)} are free"
    except OSError:
        free = "the disk is full"
    quota = " (a quota may be reached)" if error.errno == _EDQUOT != errno.ENOSPC else ""
    return ResourceError(f"cannot write {path}: {need}, {free}{quota}. What was finished is kept")


def _bytes(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.0f} {units[0]}" if units[0] == "bytes" or count >= 100 else f"{count:.1f} {units[0]}"
