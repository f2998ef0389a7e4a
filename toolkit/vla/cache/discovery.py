"""Files in files, folders and patterns, and what was passed over on the way there."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vla.errors import ResourceError, UsageError
from vla.omissions import Omissions
from vla.storage.workspace import FOLDER
from vla.video import SUFFIXES, looks_like_video


@dataclass
class Files:
    """Files to work on.

    Attributes:
        paths: each once, in order.
        folders: the folders that were named, or that a pattern matched.
        others: files in them that have another suffix, or another content under a suffix that videos share.
        omissions: everything else that was passed over; see `count_others`.
    """

    paths: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    omissions: Omissions = field(default_factory=Omissions)

    def count_others(self, used: Collection[Path] = ()) -> None:
        """Count `others` by suffix, the most frequent first, without those that are `used` (absolute paths) otherwise."""
        left = Counter(path.suffix.lower() or "no suffix" for path in self.others if path.absolute() not in used)
        for suffix, count in left.most_common():
            self.omissions.add("other-suffix", suffix, count)


def find_videos(paths: Iterable[str | Path]) -> list[Path]:
    """Video files in files, folders (recursively) and glob patterns; see `discover_files`."""
    return discover_videos(paths).paths


def discover_videos(paths: Iterable[str | Path]) -> Files:
    """Video files, and what was passed over; see `discover_files`."""
    return discover_files(paths, SUFFIXES, looks_like_video)


def find_files(paths: Iterable[str | Path], suffixes: Collection[str]) -> list[Path]:
    """Files in files, folders (recursively) and glob patterns; see `discover_files`."""
    return discover_files(paths, suffixes).paths


def discover_files(
    paths: Iterable[str | Path], suffixes: Collection[str], accept: Callable[[Path], bool] = lambda path: True
) -> Files:
    """Files in files, folders (recursively) and glob patterns; each once, in order.

    In folders only files with one of `suffixes` that `accept` takes count, and hidden entries are passed over; a file that is
    named is taken whatever it is called. Links to folders are not followed, so loops cannot arise.

    Raises:
        UsageError: a path or pattern matches nothing, is a link to nothing, or is neither file nor folder; all such are named.
        ResourceError: a path cannot be read.
    """
    files = Files()
    taken: dict[Path, None] = {}
    missing: list[str] = []

    def take(path: Path) -> None:
        """Take an entry that was met, not named."""
        if path.suffix.lower() not in suffixes:
            files.others.append(path)
        elif reason := _why_not(path):
            files.omissions.add(reason, path.name)
        elif accept(path):
            taken[path] = None
        else:
            files.others.append(path)

    for given in paths:
        path = Path(given).expanduser()
        if str(given) and _is_there(path):
            missing += _named(path, files, taken)
            matches = [path] if path.is_dir() else []
        elif any(c in str(given) for c in "*?["):
            matches = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - absolute patterns
            missing += [] if matches else [str(given)]
        else:
            matches, missing = [], [*missing, str(given) or "''"]
        for match in matches:
            if match.is_dir():
                files.folders.append(match)
                _walk(match, files.omissions, suffixes, take)
            else:
                take(match)
    if missing:
        raise UsageError(f"no such file, folder or pattern: {', '.join(missing)}")
    files.paths = list(taken)
    return files


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError as error:
        raise ResourceError(f"{path} cannot be read: {error.strerror}. Mend its permissions or its folder's") from error
    except (OSError, ValueError):
        return False
    return True


def _named(path: Path, files: Files, taken: dict[Path, None]) -> list[str]:
    """Take a file that was named; returns what is wrong with it, if anything is."""
    reason = _why_not(path)
    if reason == "broken-link":
        return [f"{path} (a link to {path.readlink()}, which is not there)"]
    if reason == "special-file":
        return [f"{path} (a pipe, socket or device, and no regular file)"]
    if path.is_dir():
        try:
            os.scandir(path).close()
        except OSError as error:
            raise ResourceError(f"the folder {path} cannot be read: {error.strerror}") from error
    else:
        taken[path] = None
    return []


def _why_not(path: Path) -> str:
    """The reason why an entry is no file to read; empty if it is one, a folder, or only its reading can tell."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        return "broken-link" if gone and path.is_symlink() else ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "special-file"


def _walk(folder: Path, omissions: Omissions, suffixes: Collection[str], take: Callable[[Path], None]) -> None:
    def unreadable(error: OSError) -> None:
        omissions.add("unreadable-folder", _below(error.filename or "", folder))

    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=False):
        inner = []
        for name in sorted(folders):
            path = Path(parent) / name
            if name.startswith("."):
                if name != FOLDER:
                    omissions.add("hidden", name)
            elif path.is_symlink():
                omissions.add("linked-folder", _below(path, folder))
            else:
                inner.append(name)
        folders[:] = inner
        for name in sorted(names):
            if not name.startswith("."):
                take(Path(parent) / name)
            elif Path(name).suffix.lower() in suffixes:
                omissions.add("hidden", name)


def _below(path: str | Path, folder: Path) -> str:
    return os.path.relpath(os.fsdecode(path), folder)
