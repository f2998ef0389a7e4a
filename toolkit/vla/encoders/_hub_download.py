"""Downloads from the model hub: resumed after a break, and compared with the digests of a revision.

huggingface_hub makes the requests and retries them. Its own downloads begin again after a break,
so a partial file is kept here under the name that its older versions used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from vla.encoders._hub_cache import DIGEST, REVISION, HubRepository, has_digest, require_room
from vla.encoders._hub_requests import FETCH_AGAIN, hub_errors, quiet_hub
from vla.errors import EnvironmentUnfitError, ResourceError, VlaError
from vla.progress import ByteCounter, Progress, ProgressCallback, silent
from vla.storage import locks


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub.

    Attributes:
        name: its name in the repository.
        size: number of bytes.
        digest: SHA-256, or for small files git's SHA-1, in hexadecimal digits.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class RemoteFiles:
    """Files of one revision of a repository.

    Attributes:
        repository: `ORG/REPO`.
        revision: 40 hexadecimal digits of the commit.
        licence: licence as the repository states it; empty if it states none.
        files: those that were asked for.
    """

    repository: str
    revision: str
    licence: str
    files: tuple[RemoteFile, ...]


def look_up(repository: str, names: Sequence[str], revision: str = "main") -> RemoteFiles:
    """Return those of `names` that a revision of a repository has, with sizes and digests.

    Args:
        repository: `ORG/REPO`.
        names: names of files.
        revision: commit, branch or tag.

    Raises:
        MissingError: the hub has no such repository, or it is private.
        UsageError: the repository has no such revision.
        EnvironmentUnfitError: the hub cannot be reached, or its answer is invalid.
    """
    from huggingface_hub import HfApi, constants

    with hub_errors(repository):
        info = HfApi(endpoint=constants.ENDPOINT).model_info(
            repository, revision=revision, files_metadata=True
        )
    commit = str(info.sha)
    if not REVISION.fullmatch(commit):
        raise _invalid_answer(repository, f"revision {commit[:50]!r}")
    files = []
    for entry in info.siblings or ():
        if entry.rfilename not in names:
            continue
        digest = str(getattr(entry.lfs, "sha256", None) or entry.blob_id)
        size = entry.size
        if not DIGEST.fullmatch(digest) or type(size) is not int or size < 0:
            raise _invalid_answer(repository, f"file {entry.rfilename}")
        files.append(RemoteFile(entry.rfilename, size, digest))
    files.sort(key=lambda file: list(names).index(file.name))
    card = info.card_data
    licence = str((card.get("license") if card else None) or "")
    return RemoteFiles(repository, commit, licence, tuple(files))


def missing_bytes(remote: RemoteFiles) -> int:
    """Return the number of bytes that `download` would transfer."""
    repository = HubRepository(remote.repository)
    count = 0
    for file in {file.digest: file for file in remote.files}.values():
        if not _is_here(repository, remote.revision, file):
            partial = repository.partial(file.digest)
            done = partial.stat().st_size if partial.is_file() else 0
            count += file.size - done if done <= file.size else file.size
    return count


def _is_here(repository: HubRepository, revision: str, file: RemoteFile) -> bool:
    """Return whether a file is in the cache: as a blob, or without one, where links are missing."""
    if repository.blob(file.digest).is_file():
        return True
    path = repository.snapshot(revision) / file.name
    return path.is_file() and path.stat().st_size == file.size and has_digest(path, file.digest)


def download(
    remotes: Sequence[RemoteFiles], progress: ProgressCallback = silent, *, is_used: bool = True
) -> None:
    """Download what is missing of `remotes`.

    Args:
        remotes: the files.
        progress: called frequently.
        is_used: make their revisions those that are used.

    Raises:
        ResourceError: the disk is too small; nothing was transferred.
        EnvironmentUnfitError: the connection broke, and the rest can be fetched by calling this
            again; or a file is not the one of the revision, and was deleted.
    """
    num_bytes = sum(map(missing_bytes, remotes))
    for remote in remotes:
        require_room(num_bytes, HubRepository(remote.repository).folder, "the download")
    counter = ByteCounter("fetch", num_bytes, progress)
    for remote in remotes:
        repository = HubRepository(remote.repository)
        for file in remote.files:
            if not _is_here(repository, remote.revision, file):
                _download_file(remote, file, repository, counter, progress)
        for file in remote.files:
            if repository.blob(file.digest).is_file():
                repository.link(remote.revision, file.name, file.digest)
        if is_used:
            repository.use(remote.revision)


def _download_file(
    remote: RemoteFiles,
    file: RemoteFile,
    repository: HubRepository,
    counter: ByteCounter,
    progress: ProgressCallback,
) -> None:
    blob, partial = repository.blob(file.digest), repository.partial(file.digest)

    def warn(holder: locks.Holder | None) -> None:
        other = f" ({holder})" if holder else ""
        message = f"Waiting for another process{other} that downloads {file.name}."
        progress(Progress("fetch", message=message, level="note"))

    with locks.lock(repository.lock_file(file.digest), warn):
        if blob.is_file():
            return
        try:
            blob.parent.mkdir(parents=True, exist_ok=True)
            if partial.is_file() and partial.stat().st_size > file.size:
                partial.unlink()
            with partial.open("ab") as handle:
                start = handle.tell()
                if start < file.size:
                    _transfer(remote, file, handle, start, counter)
                handle.flush()
                os.fsync(handle.fileno())
            is_right = partial.stat().st_size == file.size and has_digest(partial, file.digest)
            if is_right:
                partial.replace(blob)
            else:
                partial.unlink()
        except OSError as error:
            if isinstance(error, VlaError):
                raise
            raise ResourceError(f"cannot write {partial}: {error.strerror or error}") from error
    if not is_right:
        raise EnvironmentUnfitError(
            f"{file.name} of {remote.repository} is not the file of revision "
            f"{remote.revision[:12]} (its digest differs from {file.digest[:16]}...); it was "
            f"deleted",
            hint=FETCH_AGAIN,
        )


def _transfer(
    remote: RemoteFiles, file: RemoteFile, handle: BinaryIO, start: int, counter: ByteCounter
) -> None:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(
        remote.repository, file.name, revision=remote.revision, endpoint=constants.ENDPOINT
    )
    # Compressed answers would have another size, and could not be resumed.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    target = _BoundedFile(handle, file, counter)
    with quiet_hub(), hub_errors(remote.repository, lambda: (file.name, handle.tell(), file.size)):
        try:
            http_get(url, target, resume_size=start, headers=headers, expected_size=file.size)  # type: ignore[arg-type]
        except _OversizedError:
            target.seek(0)
            target.truncate(0)
            if start == 0:
                raise
            # The hub ignored the range, which older versions of huggingface_hub do not notice.
            http_get(url, target, headers=headers, expected_size=file.size)  # type: ignore[arg-type]


class _OversizedError(EnvironmentUnfitError):
    """The hub sends more than the size of the file."""


class _BoundedFile:
    """A file that counts written bytes and refuses more than the size of the download."""

    def __init__(self, handle: BinaryIO, file: RemoteFile, counter: ByteCounter) -> None:
        self._handle, self._file, self._counter = handle, file, counter

    def write(self, content: bytes) -> int:
        """Append `content`."""
        if self._handle.tell() + len(content) > self._file.size:
            raise _OversizedError(
                f"the hub sends more than the {self._file.size} bytes of {self._file.name}",
                hint=FETCH_AGAIN,
            )
        count = self._handle.write(content)
        self._counter.add(count)
        return count

    def truncate(self, size: int | None = None) -> int:
        """Cut the file where the download starts over."""
        before = os.fstat(self._handle.fileno()).st_size
        length = self._handle.truncate(size)
        self._counter.add(length - before)
        return length

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


def _invalid_answer(repository: str, subject: str) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(f"the hub's answer about {repository} is invalid ({subject})")
