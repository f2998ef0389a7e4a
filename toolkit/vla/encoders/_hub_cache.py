"""Cache of the model hub on this machine, in the layout of huggingface_hub; nothing here uses the network.

A repository is a folder. `blobs/` holds files under their digests, `snapshots/REVISION/` links
their names to them, and `refs/main` names a revision.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from vla.errors import ResourceError, UsageError
from vla.storage import atomic

REVISION = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""SHA-1 of git for small files, SHA-256 for all others."""
FILE_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,200}", re.ASCII)
_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_CHUNK_BYTES = 2**22


def cache_folder() -> Path:
    """Return the folder of the cache: HF_HUB_CACHE, or `hub` in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_repository_name(name: str) -> bool:
    """Return whether `name` can be a repository of the hub, and is safe in a path."""
    return (
        len(name) <= 96
        and _REPOSITORY.fullmatch(name) is not None
        and ".." not in name
        and "--" not in name
    )


class HubRepository:
    """A repository of models in the cache.

    Args:
        name: `ORG/REPO`.

    Raises:
        UsageError: the name is invalid.
    """

    def __init__(self, name: str) -> None:
        if not is_repository_name(name):
            raise UsageError(f"{name!r} names no model of the hub: write ORG/REPO")
        self.name = name
        self.folder = cache_folder() / f"models--{name.replace('/', '--')}"

    @property
    def main(self) -> str:
        """The revision that is used; empty if there is none."""
        with suppress(OSError, ValueError):
            text = (self.folder / "refs" / "main").read_text("ascii").strip()
            if REVISION.fullmatch(text):
                return text
        return ""

    def find(self, names: Sequence[str]) -> Path | None:
        """Return the path of the first of `names` that is here, in the revision that is used.

        A revision that lacks them all does not hide an older one.
        """
        for revision in self._revisions():
            for name in names:
                path = self.snapshot(revision) / name
                if path.is_file():
                    return path
        return None

    def snapshot(self, revision: str) -> Path:
        """Return the folder of `revision`."""
        return self.folder / "snapshots" / revision

    def blob(self, digest: str) -> Path:
        """Return the path of the content with `digest`."""
        return self.folder / "blobs" / digest

    def partial(self, digest: str) -> Path:
        """Return the path of an unfinished download."""
        return self.folder / "blobs" / f"{digest}.incomplete"

    def lock_file(self, digest: str) -> Path:
        """Return the path of the lock that huggingface_hub holds during a download, too."""
        return self.folder.parent / ".locks" / self.folder.name / f"{digest}.lock"

    def link(self, revision: str, name: str, digest: str) -> Path:
        """Give the content with `digest` its name in `revision`; return the path.

        Systems without symbolic links get a hard link or a copy.
        """
        path, blob = self.snapshot(revision) / name, self.blob(digest)
        temporary = path.parent / f"{atomic.TEMPORARY}{secrets.token_hex(6)}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.symlink_to(os.path.relpath(blob, path.parent))
            except OSError:
                try:
                    temporary.hardlink_to(blob)
                except OSError:
                    shutil.copyfile(blob, temporary)
            temporary.replace(path)
        except OSError as error:
            raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error
        finally:
            # A hard link that replaces another one of the same file stays behind.
            atomic.unlink_quietly(temporary)
        return path

    def use(self, revision: str) -> None:
        """Make `revision` the one that is used."""
        atomic.write_bytes(self.folder / "refs" / "main", revision.encode("ascii"))

    def _revisions(self) -> list[str]:
        main = self.main
        folders = []
        with suppress(OSError):
            folders = [
                path
                for path in (self.folder / "snapshots").iterdir()
                if REVISION.fullmatch(path.name) and path.name != main
            ]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [*([main] if main else []), *(path.name for path in folders)]


def revision_of(path: Path) -> str:
    """Return the revision of a file in a snapshot; empty if it is in none."""
    name = path.parent.name
    return name if REVISION.fullmatch(name) else ""


def digest_of(path: Path) -> str:
    """Return the digest that the cache has for a file in a snapshot; empty if that is unknown."""
    target = Path(os.path.realpath(path))
    if target.parent.name != "blobs":  # no symbolic link, but perhaps a hard link
        with suppress(OSError):
            blobs = (path.parents[2] / "blobs").iterdir()
            target = next((blob for blob in blobs if blob.samefile(path)), target)
    return target.name if DIGEST.fullmatch(target.name) else ""


def has_digest(
    path: Path, digest: str, on_bytes: Callable[[int], None] = lambda count: None
) -> bool:
    """Return whether the content of `path` has `digest`, a SHA-256 or git's SHA-1.

    Args:
        path: the file.
        digest: 64 or 40 hexadecimal digits.
        on_bytes: called with the number of bytes of each chunk.
    """
    with path.open("rb") as file:
        if len(digest) == 64:
            state = hashlib.sha256()
        else:
            size = os.fstat(file.fileno()).st_size
            state = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
            on_bytes(len(chunk))
    return state.hexdigest() == digest


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that `folder` is on, or will be on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_room(num_bytes: int, folder: Path, purpose: str) -> None:
    """Raise ResourceError if `num_bytes` bytes do not fit on the disk of `folder`."""
    free = free_bytes(folder)
    if num_bytes > free:
        raise ResourceError(
            f"{purpose} needs {atomic.format_bytes(num_bytes)}, but {atomic.format_bytes(free)} are "
            f"free in {folder}. Free space there, or set HF_HOME to a folder on another disk"
        )
