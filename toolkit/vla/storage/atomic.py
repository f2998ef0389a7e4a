"""Atomic files: a file is either complete or absent. Everything that vla keeps is written here.

A file is written under a temporary name in its own folder, synced, and renamed; then the folder is
synced. A reader never sees half a file. A kill leaves at most a stray `.tmp-*` file, which listings
ignore.
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
_EDQUOT = getattr(errno, "EDQUOT", errno.ENOSPC)  # Windows has no EDQUOT
_FULL = (errno.ENOSPC, _EDQUOT, errno.EFBIG)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically, replacing an existing file.

    Raises:
        ResourceError: the file cannot be written; on a full disk, the message gives the bytes needed and
            free.
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
    """Open a file for writing that appears at `path` when the block ends, unless it raises.

    For content too large for memory; everything else uses `write_bytes`.

    Raises:
        ResourceError: the file cannot be written.
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


class JsonDocument(NamedTuple):
    """Content of a JSON file.

    Attributes:
        value: the decoded value, without its checksum.
        has_checksum: whether the file has a checksum, which then matches; older versions wrote none.
    """

    value: Any
    has_checksum: bool


def encode_json(record: Mapping[str, Any], *, indent: int | None = 1, digits: int = 64) -> bytes:
    """Encode `record` as JSON with a checksum and a final newline.

    The first key is `checksum`: the sha256 of all bytes after that key's comma.

    Args:
        record: the JSON object.
        indent: spaces of indentation; None for a single line.
        digits: hexadecimal digits of the checksum: 16 for a line, 64 for a file.
    """
    text = json.dumps(record, indent=indent, sort_keys=True)
    if not record:
        return b"{}\n"
    body = ("" if indent else " ").encode() + text[1:].encode("ascii") + b"\n"
    head = b"{\n " if indent else b"{"
    return head + f'"checksum": "{sha256(body)[:digits]}",'.encode() + body


def decode_json(content: bytes, source: str, hint: Hint) -> JsonDocument:
    """Decode the bytes of `encode_json`, or JSON without a checksum.

    Raises:
        CacheError: the content is not JSON, or its checksum differs. The message begins with `source`.
    """
    head = _SEAL.match(content)
    if head and head[1].decode() != sha256(content[head.end() :])[: len(head[1])]:
        raise CacheError(
            f"{source} was altered since it was written (its checksum differs)", hint=hint
        )
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{source} is damaged ({error})", hint=hint) from error
    if isinstance(value, dict) and (value.pop("checksum", None) is not None) != bool(head):
        raise CacheError(
            f"{source} was altered since it was written (its checksum moved)", hint=hint
        )
    return JsonDocument(value, bool(head))


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write `record` to `path` atomically, as JSON with a checksum."""
    write_bytes(path, encode_json(record))


def read_record(path: Path, hint: Hint = _REDO) -> JsonDocument:
    """Read the JSON file at `path` and verify its checksum.

    Raises:
        CacheError: the file cannot be read, is not JSON, or was altered; its hint is `hint`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_json(content, str(path), hint)


def read_json(path: Path) -> Any:
    """Return the value of `read_record`; raise CacheError like it."""
    return read_record(path).value


def contains(path: Path, record: Any) -> bool:
    """Return whether the file at `path` contains `record`; False if it is missing or damaged."""
    try:
        return path.is_file() and read_json(path) == record
    except CacheError:
        return False


def list_files(folder: Path, suffix: str = ".json") -> list[Path]:
    """Return the sorted files in `folder` whose names end with `suffix`, without temporary files."""
    return sorted(p for p in folder.glob(f"*{suffix}") if not p.name.startswith(TEMPORARY))


def remove(path: Path) -> None:
    """Delete the file at `path` if it exists.

    Raises:
        ResourceError: the file cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot delete {path}: {error.strerror or error}") from error


def unlink_quietly(path: Path) -> None:
    """Delete an unused file if possible; one that cannot be deleted is harmless waste."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: Path, digest: str, hint: Hint = _REDO) -> bytes:
    """Read the file at `path` and verify its SHA-256, before anything parses it.

    Raises:
        CacheError: the file is missing, altered or unreadable; its hint is `hint`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CacheError(f"{path} is gone", hint=hint) from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    if sha256(content) != digest:
        raise CacheError(
            f"{path} was altered since it was written (its checksum differs)", hint=hint
        )
    return content


def _require_replaceable(path: Path) -> None:
    """Refuse to replace anything but a regular file: root could replace a device by a rename."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # missing, or writing will report the problem
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "device, pipe or socket"
        raise ResourceError(
            f"cannot write {path}: it is a {kind}, not a regular file. Choose another name"
        )


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
    need = f"{format_bytes(size)} needed" if size else "no file can be created"
    if error.errno == errno.EFBIG:
        return ResourceError(
            f"cannot write {path}: {need}, more than the file size limit (ulimit -f)"
        )
    try:
        free = f"{format_bytes(shutil.disk_usage(path.parent).free)} free"
    except OSError:
        free = "the disk is full"
    quota = " (a disk quota may be exhausted)" if error.errno == _EDQUOT != errno.ENOSPC else ""
    return ResourceError(f"cannot write {path}: {need}, {free}{quota}. Completed work is kept")


def format_bytes(count: float) -> str:
    """Return a size for messages, e.g. `1.8 GB`."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return (
        f"{count:.0f} {units[0]}"
        if units[0] == "bytes" or count >= 100
        else f"{count:.1f} {units[0]}"
    )
