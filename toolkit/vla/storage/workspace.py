"""Workspace: the `.vla/` folder, searched upwards from the current folder like `.git`, or named.

    .vla/
      workspace.json              schema and the version that made it
      captions.jsonl              all captions, one annotation a line
      cache/<fingerprint>/        frozen features of one encoder and sampling
      runs/<name>/                trained projectors
      index/                      the index that `vla search` reads

Everything in it can be recreated from the videos and captions. Nothing is written beside the videos.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from vla.errors import MissingError, ResourceError, UsageError
from vla.hints import Hint
from vla.naming.matching import NameMatcher
from vla.naming.portable import require_name
from vla.progress import Progress, ProgressCallback
from vla.storage import atomic, locks, records
from vla.storage.records import Positive

SCHEMA = 1
FOLDER = ".vla"
VARIABLE = "VLA_WORKSPACE"


@dataclass(frozen=True)
class _Description:
    """`workspace.json`."""

    schema: Positive


@dataclass(frozen=True)
class Workspace:
    """Paths of one workspace.

    Attributes:
        root: the folder that contains `.vla/`.
    """

    root: Path

    @property
    def home(self) -> Path:
        """The `.vla` folder itself."""
        return self.root / FOLDER

    @property
    def captions(self) -> Path:
        """The file of all annotations."""
        return self.home / "captions.jsonl"

    @property
    def caches(self) -> Path:
        """One folder for each feature space."""
        return self.home / "cache"

    @property
    def runs(self) -> Path:
        """One folder for each training run."""
        return self.home / "runs"

    def run(self, name: str) -> Path:
        """Return the folder of the run called `name`; raise UsageError for an invalid name."""
        return self.runs / require_name(name, "a run")

    @property
    def index(self) -> Path:
        """The folder of the search index."""
        return self.home / "index"

    def lock(
        self, progress: ProgressCallback, *, reading: bool = False
    ) -> AbstractContextManager[None]:
        """Hold the lock of the workspace; wait for another process that holds it, and report that.

        Args:
            progress: called while another process holds the lock.
            reading: continue without the lock if the workspace is not writable.
        """
        return locks.lock(self._lock, _report_wait(progress, "workspace"), optional=reading)

    def lock_index(
        self, progress: ProgressCallback, *, reading: bool = False
    ) -> AbstractContextManager[None]:
        """Hold the lock of the index while writing to it; arguments as for `lock`.

        Features may be added meanwhile: an index covers the features present when its build began. Code
        that needs both locks takes this one last.
        """
        return locks.lock(
            self.home / "index.lock", _report_wait(progress, "index"), optional=reading
        )

    def is_busy(self) -> bool:
        """Return whether a process holds the lock of the workspace."""
        return locks.holder(self._lock) is not None

    @property
    def _lock(self) -> Path:
        return self.home / "lock"

    def video_id(self, path: Path) -> str:
        """Return the id of the video at `path`: its path relative to `root` if it lies below, else absolute."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links and change names
        try:
            return absolute.relative_to(self.root).as_posix()
        except ValueError:
            return absolute.as_posix()

    def resolve_video(self, name: Path | str, video_ids: Iterable[str]) -> str:
        """Return the id among `video_ids` that a name or a path stands for; see `vla.naming.matching`.

        Raises:
            MissingError: no id matches.
            UsageError: several ids match.
        """
        return NameMatcher(video_ids, self.root).resolve(str(name), self.root, Path.cwd())

    def video_path(self, video_id: str) -> Path:
        """Return the path of the video with the id `video_id`."""
        return self.root / video_id

    @classmethod
    def find(cls, start: Path | str | None = None, *, check: bool = True) -> Workspace | None:
        """Return the workspace in the folder `start`, else `$VLA_WORKSPACE`, else the nearest one upwards.

        Only without a named folder are the current folder and those above it searched: a mistyped name
        must not lead to another workspace.

        Args:
            start: the folder of the workspace.
            check: validate the description of the workspace.

        Raises:
            UsageError: `start` is empty or a file.
            CacheError: the workspace was made by a newer version, or its description is damaged.
        """
        root = _explicit_root(start)
        candidates = [root] if root is not None else [here := Path.cwd(), *here.parents]
        for folder in candidates:
            if _is_file(folder / FOLDER / "workspace.json"):
                workspace = cls(folder)
                if check:
                    workspace.check()
                return workspace
        return None

    @classmethod
    def open(cls, start: Path | str | None = None, *, check: bool = True) -> Workspace:
        """Return the workspace like `find`, but require one. Repair opens it without `check`.

        Raises:
            MissingError: there is no workspace; the hint is how to make one.
        """
        workspace = cls.find(start, check=check)
        if workspace is not None:
            return workspace
        root = _explicit_root(start)
        if root is None:
            raise MissingError(
                f"no workspace ({FOLDER}/) in {Path.cwd()} or above it",
                hint=Hint("make_workspace", variable=VARIABLE),
            )
        above = next((p for p in root.parents if (p / FOLDER / "workspace.json").is_file()), None)
        raise MissingError(
            f"no workspace ({FOLDER}/) in {root}" + (f": there is one in {above}" if above else ""),
            hint=Hint("name_workspace", folder=FOLDER)
            if above
            else Hint("make_workspace", variable=VARIABLE),
        )

    @classmethod
    def choose(cls, folder: Path | str | None = None) -> Workspace:
        """Return the workspace that `open_or_create` would open or create, without writing anything."""
        root = _explicit_root(folder)
        if root is None:
            nearest = cls.find()
            if nearest is not None:
                return nearest
            root = Path.cwd()
        workspace = cls(root)
        if _is_file(workspace.home / "workspace.json"):
            workspace.check()
        return workspace

    @classmethod
    def open_or_create(cls, folder: Path | str | None = None) -> Workspace:
        """Return the workspace of `folder` (searched upwards when None); create it if missing."""
        workspace = cls.choose(folder)
        description = workspace.home / "workspace.json"
        if not _is_file(description):
            atomic.write_json(description, {"schema": SCHEMA})
        return workspace

    def check(self) -> None:
        """Validate the description.

        Raises:
            CacheError: the workspace was made by a newer version, or its description is damaged.
        """
        records.load(
            _Description, self.home / "workspace.json", Hint("repair_workspace"), schema=SCHEMA
        )


def _explicit_root(folder: Path | str | None) -> Path | None:
    """Return the named folder, from the argument or the variable, or None; `x/.vla` names `x`."""
    name = os.environ.get(VARIABLE) or None if folder is None else folder
    if name is None:
        return None
    if not str(name).strip():
        raise UsageError(
            "the workspace has an empty name: name the folder that holds .vla/, or leave the "
            "option out"
        )
    root = Path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100 - links keep their names
    if root.exists() and not root.is_dir():
        raise UsageError(f"the workspace must be a folder, but {root} is a file")
    return root.parent if root.name == FOLDER else root


def _is_file(path: Path) -> bool:
    """Return whether `path` is a regular file; raise ResourceError if its folder cannot be read."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise ResourceError(f"{path} cannot be read: {error.strerror or error}") from error


def _report_wait(
    progress: ProgressCallback, lock_name: str
) -> Callable[[locks.Holder | None], None]:
    def report(holder: locks.Holder | None) -> None:
        process = f" ({holder})" if holder else ""
        message = f"Waiting for another vla process to release the {lock_name} lock{process}."
        progress(Progress("wait", message=message, level="note"))

    return report
