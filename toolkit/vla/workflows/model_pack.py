"""Packs: models of the hub in one file, to carry them to a machine without network.

A pack is untrusted: names, sizes and digests are checked before a file gets its place.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla.encoders._hub_cache import (
    HubRepository,
    cache_folder,
    has_digest,
    require_room,
    revision_of,
)
from vla.encoders._model_fetch import source_files
from vla.errors import FormatError, UsageError, VlaError
from vla.hints import Hint
from vla.progress import ByteCounter, ProgressCallback, silent
from vla.storage import atomic, locks
from vla.storage.regular_files import open_regular
from vla.workflows.model_archive import (
    PackFile,
    invalid_pack,
    read_manifest,
    read_member,
    require_small_directory,
    write_manifest,
    write_member,
)
from vla.workflows.models import hub_model


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
            files.append(write_member(archive, entry, path, counter))
        write_manifest(archive, [source.name for source in sources], files)
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
        require_small_directory(stream, file)
        try:
            with zipfile.ZipFile(stream) as archive:
                models, files = read_manifest(archive, file)
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
            raise invalid_pack(file, str(error)) from error


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
        (entry.repository, entry.sha256): entry
        for entry in files
        if not _is_here(HubRepository(entry.repository).blob(entry.sha256), entry.sha256)
    }
    num_bytes = sum(entry.bytes for entry in missing.values())
    require_room(num_bytes, cache_folder(), "unpacking")
    counter = ByteCounter("unpack", sum(entry.bytes for entry in files), progress)
    new = []
    try:
        for entry in files:
            blob = HubRepository(entry.repository).blob(entry.sha256)
            with locks.lock(HubRepository(entry.repository).lock_file(entry.sha256)):
                if not _is_here(blob, entry.sha256):
                    read_member(archive, entry, file, blob, counter)
                    new.append(blob)
    except BaseException:
        for blob in new:
            atomic.unlink_quietly(blob)
        raise
    for entry in files:
        HubRepository(entry.repository).link(entry.revision, entry.name, entry.sha256)
    for name, revision in revisions.items():
        HubRepository(name).use(revision)
    return PackReport(file, models, files, num_bytes)


def _is_here(blob: Path, digest: str) -> bool:
    return blob.is_file() and has_digest(blob, digest)
