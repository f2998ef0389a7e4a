"""Archive of a pack of models: writing, and the checks of one that is untrusted.

A pack is an uncompressed ZIP archive: `models.json` with repositories, revisions, sizes and
SHA-256 digests, and the files. Nothing in it is loaded or unpickled here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from vla.encoders._hub_cache import FILE_NAME, REVISION, is_repository_name
from vla.errors import FormatError
from vla.progress import ByteCounter
from vla.storage import atomic

SCHEMA = 1
_MANIFEST = "models.json"
_MANIFEST_LIMIT_BYTES, _DIRECTORY_LIMIT_BYTES, _MAX_FILES = 2**20, 2**20, 1000
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".json", ".txt", ".model")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class PackFile:
    """A file in a pack.

    Attributes:
        repository: `ORG/REPO`.
        revision: 40 hexadecimal digits.
        name: its name in the repository.
        bytes: its size.
        sha256: its digest.
    """

    repository: str
    revision: str
    name: str
    bytes: int
    sha256: str

    @property
    def member(self) -> str:
        """Its name in the archive."""
        return f"{self.repository}/{self.revision}/{self.name}"


def write_member(
    archive: zipfile.ZipFile, entry: PackFile, path: Path, counter: ByteCounter
) -> PackFile:
    """Copy the file at `path` into the archive; return `entry` with its digest."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as source,
        archive.open(_zip_info(entry.member), "w", force_zip64=True) as target,
    ):
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
            counter.add(len(chunk))
    return PackFile(entry.repository, entry.revision, entry.name, entry.bytes, digest.hexdigest())


def write_manifest(
    archive: zipfile.ZipFile, models: Sequence[str], files: Sequence[PackFile]
) -> None:
    """Write `models.json`, after the files: it has their digests."""
    manifest = {"schema": SCHEMA, "models": list(models), "files": list(map(asdict, files))}
    archive.writestr(_zip_info(_MANIFEST), json.dumps(manifest, indent=1))


def _zip_info(name: str) -> zipfile.ZipInfo:
    """Return a header that does not depend on the clock, so that equal models are equal packs."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def read_member(
    archive: zipfile.ZipFile, entry: PackFile, file: Path, blob: Path, counter: ByteCounter
) -> None:
    """Copy a file of the archive to `blob`, if it has the size and the digest of `entry`.

    Raises:
        FormatError: it has not; nothing was written.
    """
    digest, count = hashlib.sha256(), 0
    with atomic.open_atomic(blob) as target:
        with archive.open(entry.member) as source:
            while chunk := source.read(_CHUNK_BYTES):
                count += len(chunk)
                if count > entry.bytes:
                    break
                digest.update(chunk)
                target.write(chunk)
                counter.add(len(chunk))
        if count != entry.bytes or digest.hexdigest() != entry.sha256:
            raise invalid_pack(file, f"{entry.member} has another SHA-256 than the pack states")


def read_manifest(
    archive: zipfile.ZipFile, file: Path
) -> tuple[tuple[str, ...], tuple[PackFile, ...]]:
    """Return the models and files of a pack whose archive has exactly these files.

    Raises:
        FormatError: the manifest is invalid, or does not describe the archive.
    """
    members = {info.filename: info for info in archive.infolist()}
    if _MANIFEST not in members or members[_MANIFEST].file_size > _MANIFEST_LIMIT_BYTES:
        raise invalid_pack(file, f"it has no {_MANIFEST}")
    if any(i.compress_type != zipfile.ZIP_STORED or i.flag_bits & 1 for i in members.values()):
        raise invalid_pack(file, "its files are compressed or encrypted")
    try:
        manifest = json.loads(archive.read(_MANIFEST))
        schema, models = manifest["schema"], manifest["models"]
        files = tuple(PackFile(**entry) for entry in manifest["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise invalid_pack(file, f"{_MANIFEST} is damaged") from error
    if schema != SCHEMA:
        raise invalid_pack(file, f"its schema is {str(schema)[:20]!r}, not {SCHEMA}")
    if not isinstance(models, list) or not all(isinstance(name, str) for name in models):
        raise invalid_pack(file, f"{_MANIFEST} is damaged")
    for entry in files:
        if reason := _fault(entry):
            raise invalid_pack(file, reason)
    if sorted([*members, _MANIFEST]) != sorted([*(e.member for e in files), _MANIFEST, _MANIFEST]):
        raise invalid_pack(file, f"its files are not those of {_MANIFEST}")
    if len({(e.repository, e.revision) for e in files}) != len({e.repository for e in files}):
        raise invalid_pack(file, "a repository has two revisions")
    if not files or any(members[e.member].file_size != e.bytes for e in files):
        raise invalid_pack(file, f"its files have other sizes than in {_MANIFEST}")
    return tuple(name[:200] for name in models), files


def _fault(entry: PackFile) -> str:
    """Return why an entry of the manifest cannot be trusted with a path; empty if it can."""
    if not all(
        isinstance(value, str)
        for value in (entry.repository, entry.revision, entry.name, entry.sha256)
    ):
        return "an entry is no text"
    if not is_repository_name(entry.repository):
        return f"{entry.repository[:100]!r} is no repository"
    if not REVISION.fullmatch(entry.revision) or not _SHA256.fullmatch(entry.sha256):
        return f"{entry.name[:100]!r} has an invalid revision or digest"
    if (
        not FILE_NAME.fullmatch(entry.name)
        or not entry.name.endswith(_SUFFIXES)
        or ".." in entry.name
    ):
        return f"{entry.name[:100]!r} is no file of a model"
    if type(entry.bytes) is not int or entry.bytes < 0:
        return f"{entry.name!r} has an invalid size"
    return ""


def require_small_directory(stream: BinaryIO, file: Path) -> None:
    """Refuse an archive whose directory would fill the memory: zipfile reads it whole.

    A pack has no comment, so the end of its directory is the last 22 bytes of the file.

    Raises:
        FormatError: the directory is too large, or there is none.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - 98, 0))
    tail = stream.read(98)
    stream.seek(0)
    if len(tail) < 22 or tail[-22:-18] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        raise invalid_pack(file, "it is no ZIP archive, or is cut off")
    count, length = struct.unpack("<HL", tail[-12:-6])
    if len(tail) == 98 and tail[56:60] == b"PK\x06\x07":
        if tail[:4] != b"PK\x06\x06":
            raise invalid_pack(file, "its directory is damaged")
        count, length = struct.unpack("<QQ", tail[32:48])
    if count > _MAX_FILES or length > _DIRECTORY_LIMIT_BYTES:
        raise invalid_pack(file, f"its directory has {count} files and {length} bytes, too many")


def invalid_pack(file: Path, reason: str) -> FormatError:
    """Return the error for a file that is no pack."""
    return FormatError(f"{file} is no pack of models: {reason}")
