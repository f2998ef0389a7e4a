"""Packs: models of the hub in one file, to carry them to a machine without network.

A pack is an uncompressed ZIP archive: `models.json` with repositories, revisions, sizes and
SHA-256 digests, then the files. A pack is untrusted. Nothing in it is loaded or unpickled here;
names, sizes and digests are checked before a file gets its place.
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
from typing import Any, BinaryIO

from vla.encoders._hub_cache import (
    FILE_NAME,
    REVISION,
    HubRepository,
    cache_folder,
    has_digest,
    is_repository_name,
    require_room,
    revision_of,
)
from vla.encoders._model_fetch import source_files
from vla.errors import FormatError, UsageError, VlaError
from vla.hints import Hint
from vla.progress import ByteCounter, ProgressCallback, silent
from vla.storage import atomic, locks
from vla.storage.regular_files import open_regular
from vla.workflows.models import hub_model

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


@dataclass(frozen=True)
class PackReport:
    """Result of `pack_models` and `unpack_models`.

    Attributes:
        file: the pack.
        models: names of the models, as commands take them.
        files: all files.
        new_bytes: bytes that were not on this machine before.
    """

    file: Path
    models: tuple[str, ...]
    files: tuple[PackFile, ...]
    new_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "file": str(self.file)}


def pack_models(
    names: Sequence[str],
    file: str | Path,
    *,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
) -> PackReport:
    """Write models that are on this machine to one file.

    Args:
        names: models as in `fetch_model`.
        file: the pack.
        overwrite: replace an existing file.
        progress: called frequently.

    Raises:
        UsageError: there is no such model, its weights are not on the hub, or the file exists.
        MissingError: the weights are not on this machine.
        ResourceError: the file cannot be written.
    """
    file = Path(file)
    if not names:
        raise UsageError("name at least one model to pack")
    if file.exists() and not overwrite:
        raise UsageError(f"{file} exists", hint=Hint("overwrite"))
    sources = [hub_model(name, progress) for name in dict.fromkeys(names)]
    paths = {path: None for source in sources for path in source_files(source)}
    total = sum(path.stat().st_size for path in paths)
    require_room(total, file.absolute().parent, "the pack")
    counter = ByteCounter("pack", total, progress)
    files = []
    with (
        atomic.open_atomic(file) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive,
    ):
        for path in paths:
            repository = path.parents[2].name.removeprefix("models--").replace("--", "/")
            entry = PackFile(repository, revision_of(path), path.name, path.stat().st_size, "")
            files.append(_write_member(archive, entry, path, counter))
        manifest = {
            "schema": SCHEMA,
            "models": [s.name for s in sources],
            "files": list(map(asdict, files)),
        }
        archive.writestr(_zip_info(_MANIFEST), json.dumps(manifest, indent=1))
    return PackReport(file, tuple(s.name for s in sources), tuple(files), 0)


def unpack_models(
    file: str | Path, *, overwrite: bool = False, progress: ProgressCallback = silent
) -> PackReport:
    """Put the models of a pack into the cache of this machine.

    A model appears when all its files have the digests of the pack; else nothing of it does.

    Args:
        file: a pack.
        overwrite: use the revision of the pack where another one is here.
        progress: called frequently.

    Raises:
        FormatError: the file is no pack, or is damaged.
        UsageError: another revision of a model is here, and `overwrite` is False.
        ResourceError: the disk is too small; nothing was written.
    """
    file = Path(file)
    with open_regular(file, FormatError, "pack") as stream:
        _require_small_directory(stream, file)
        try:
            with zipfile.ZipFile(stream) as archive:
                models, files = _read_manifest(archive, file)
                return _unpack(archive, file, models, files, overwrite, progress)
        except VlaError:
            raise
        except (
            zipfile.BadZipFile,
            struct.error,
            EOFError,
            RuntimeError,
            ValueError,
            OverflowError,
        ) as error:
            raise _invalid(file, str(error)) from error


def _unpack(
    archive: zipfile.ZipFile,
    file: Path,
    models: tuple[str, ...],
    files: tuple[PackFile, ...],
    overwrite: bool,
    progress: ProgressCallback,
) -> PackReport:
    revisions = {entry.repository: entry.revision for entry in files}
    for name, revision in revisions.items():
        main = HubRepository(name).main
        if main and main != revision and not overwrite:
            raise UsageError(
                f"{name} is here in revision {main[:12]}, and the pack has {revision[:12]}: features "
                f"of the two may differ",
                hint=Hint("overwrite_model"),
            )
    missing = {
        entry.sha256: entry
        for entry in files
        if not _is_here(HubRepository(entry.repository).blob(entry.sha256), entry.sha256)
    }
    needed = sum(entry.bytes for entry in missing.values())
    require_room(needed, cache_folder(), "unpacking")
    counter = ByteCounter("unpack", sum(entry.bytes for entry in files), progress)
    new = []
    try:
        for entry in files:
            blob = HubRepository(entry.repository).blob(entry.sha256)
            with locks.lock(HubRepository(entry.repository).lock_file(entry.sha256)):
                if not _is_here(blob, entry.sha256):
                    _read_member(archive, entry, file, blob, counter)
                    new.append(blob)
    except BaseException:
        for blob in new:
            atomic.unlink_quietly(blob)
        raise
    for entry in files:
        HubRepository(entry.repository).link(entry.revision, entry.name, entry.sha256)
    for name, revision in revisions.items():
        HubRepository(name).use(revision)
    return PackReport(file, models, files, needed)


def _is_here(blob: Path, digest: str) -> bool:
    return blob.is_file() and has_digest(blob, digest)


def _write_member(
    archive: zipfile.ZipFile, entry: PackFile, path: Path, counter: ByteCounter
) -> PackFile:
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


def _zip_info(name: str) -> zipfile.ZipInfo:
    """Return a header that does not depend on the clock, so that equal models are equal packs."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def _read_member(
    archive: zipfile.ZipFile, entry: PackFile, file: Path, blob: Path, counter: ByteCounter
) -> None:
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
            raise _invalid(file, f"{entry.member} has another SHA-256 than the pack states")


def _read_manifest(
    archive: zipfile.ZipFile, file: Path
) -> tuple[tuple[str, ...], tuple[PackFile, ...]]:
    """Return the models and files of a pack whose archive has exactly these files."""
    members = {info.filename: info for info in archive.infolist()}
    if _MANIFEST not in members or members[_MANIFEST].file_size > _MANIFEST_LIMIT_BYTES:
        raise _invalid(file, f"it has no {_MANIFEST}")
    if any(i.compress_type != zipfile.ZIP_STORED or i.flag_bits & 1 for i in members.values()):
        raise _invalid(file, "its files are compressed or encrypted")
    try:
        manifest = json.loads(archive.read(_MANIFEST))
        if manifest["schema"] != SCHEMA:
            raise _invalid(file, f"its schema is {str(manifest['schema'])[:20]!r}, not {SCHEMA}")
        models = manifest["models"]
        files = tuple(PackFile(**entry) for entry in manifest["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _invalid(file, f"{_MANIFEST} is damaged") from error
    if not isinstance(models, list) or not all(isinstance(name, str) for name in models):
        raise _invalid(file, f"{_MANIFEST} is damaged")
    for entry in files:
        if reason := _fault(entry):
            raise _invalid(file, reason)
    if sorted([*members, _MANIFEST]) != sorted([*(e.member for e in files), _MANIFEST, _MANIFEST]):
        raise _invalid(file, f"its files are not those of {_MANIFEST}")
    if len({(e.repository, e.revision) for e in files}) != len({e.repository for e in files}):
        raise _invalid(file, "a repository has two revisions")
    if not files or any(members[e.member].file_size != e.bytes for e in files):
        raise _invalid(file, f"its files have other sizes than in {_MANIFEST}")
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


def _require_small_directory(stream: BinaryIO, file: Path) -> None:
    """Refuse an archive whose directory would fill the memory: zipfile reads it whole.

    A pack has no comment, so the end of its directory is the last 22 bytes of the file.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - 98, 0))
    tail = stream.read(98)
    stream.seek(0)
    if len(tail) < 22 or tail[-22:-18] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        raise _invalid(file, "it is no ZIP archive, or is cut off")
    count, length = struct.unpack("<HL", tail[-12:-6])
    if len(tail) == 98 and tail[56:60] == b"PK\x06\x07":
        if tail[:4] != b"PK\x06\x06":
            raise _invalid(file, "its directory is damaged")
        count, length = struct.unpack("<QQ", tail[32:48])
    if count > _MAX_FILES or length > _DIRECTORY_LIMIT_BYTES:
        raise _invalid(file, f"it has {count} files, more than a pack")


def _invalid(file: Path, reason: str) -> FormatError:
    return FormatError(f"{file} is no pack of models: {reason}")
