"""Discovery of files in folders and glob patterns, with counts of the entries left out."""

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
    """Result of a discovery.

    Attributes:
        paths: the files, each once, in order.
        folders: the folders that were named or matched by a pattern.
        others: files in them with another suffix, or with other content under a suffix that videos share.
        omissions: counts of all other entries that were left out; see `count_others`.
    """

    paths: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    omissions: Omissions = field(default_factory=Omissions)

    def count_others(self, other_uses: Collection[Path] = ()) -> None:
        """Add `others` to `omissions`, by suffix, the most frequent first.

        Args:
            other_uses: absolute paths of files that have another use; they are not counted.
        """
        counts = Counter(
            path.suffix.lower() or "no suffix"
            for path in self.others
            if path.absolute() not in other_uses
        )
        for suffix, count in counts.most_common():
            self.omissions.add("other-suffix", suffix, count)


def find_videos(paths: Iterable[str | Path]) -> list[Path]:
    """Return the video files in files, folders (recursively) and glob patterns; see `discover_files`."""
    return discover_videos(paths).paths


def discover_videos(paths: Iterable[str | Path]) -> Files:
    """Find video files, and count the entries left out; see `discover_files`."""
    return discover_files(paths, SUFFIXES, looks_like_video)


def find_files(paths: Iterable[str | Path], suffixes: Collection[str]) -> list[Path]:
    """Return the files in files, folders (recursively) and glob patterns; see `discover_files`."""
    return discover_files(paths, suffixes).paths


def discover_files(
    paths: Iterable[str | Path],
    suffixes: Collection[str],
    accept: Callable[[Path], bool] = lambda path: True,
) -> Files:
    """Find files in files, folders (recursively) and glob patterns; each once, in order.

    In folders, only files with one of `suffixes` that `accept` returns True for are taken, and hidden
    entries are left out. A file that is named is taken with any suffix. Links to folders are not
    followed, so loops cannot arise.

    Raises:
        UsageError: paths or patterns that match nothing, broken links, or neither files nor folders; the
            message lists all of them.
        ResourceError: a path cannot be read.
    """
    files = Files()
    file_paths: dict[Path, None] = {}
    missing: list[str] = []

    def take(path: Path) -> None:
        """Take an entry of a folder or a match of a pattern."""
        if path.suffix.lower() not in suffixes:
            files.others.append(path)
        elif reason := _omission_reason(path):
            files.omissions.add(reason, path.name)
        elif accept(path):
            file_paths[path] = None
        else:
            files.others.append(path)

    for name in map(str, paths):
        path = Path(name).expanduser()
        matches: list[Path] = []
        if name and _exists(path):
            problem = _add_file(path, file_paths)
            if problem:
                missing.append(problem)
            elif path.is_dir():
                matches = [path]
        elif any(c in name for c in "*?["):
            matches = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - absolute patterns
            if not matches:
                missing.append(name)
        else:
            missing.append(name or "''")
        for match in matches:
            if match.is_dir():
                files.folders.append(match)
                _walk(match, files.omissions, suffixes, take)
            else:
                take(match)
    if missing:
        raise UsageError(f"no such file, folder or pattern: {', '.join(missing)}")
    files.paths = list(file_paths)
    return files


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError as error:
        raise ResourceError(
            f"{path} cannot be read: {error.strerror}. Check the permissions of it and its folder"
        ) from error
    except (OSError, ValueError):
        return False
    return True


def _add_file(path: Path, file_paths: dict[Path, None]) -> str:
    """Take a file that was named; return the problem with it, or an empty text."""
    reason = _omission_reason(path)
    if reason == "broken-link":
        return f"{path} (a link to {path.readlink()}, which does not exist)"
    if reason == "special-file":
        return f"{path} (a pipe, socket or device, not a regular file)"
    if path.is_dir():
        try:
            os.scandir(path).close()
        except OSError as error:
            raise ResourceError(f"the folder {path} cannot be read: {error.strerror}") from error
    else:
        file_paths[path] = None
    return ""


def _omission_reason(path: Path) -> str:
    """Return the reason why an entry cannot be read as a file, or an empty text.

    Empty for regular files and folders, and where only reading can tell.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        return "broken-link" if is_missing and path.is_symlink() else ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "special-file"


def _walk(
    folder: Path, omissions: Omissions, suffixes: Collection[str], take: Callable[[Path], None]
) -> None:
    def unreadable(error: OSError) -> None:
        omissions.add("unreadable-folder", _relative(error.filename or "", folder))

    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=False):
        subfolders = []
        for name in sorted(folders):
            path = Path(parent) / name
            if name.startswith("."):
                if name != FOLDER:
                    omissions.add("hidden", name)
            elif path.is_symlink():
                omissions.add("linked-folder", _relative(path, folder))
            else:
                subfolders.append(name)
        folders[:] = subfolders
        for name in sorted(names):
            if not name.startswith("."):
                take(Path(parent) / name)
            elif Path(name).suffix.lower() in suffixes:
                omissions.add("hidden", name)


def _relative(path: str | Path, folder: Path) -> str:
    return os.path.relpath(os.fsdecode(path), folder)
