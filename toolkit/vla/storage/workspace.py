"""The folder a user works in: `.vla/`, found upwards from the current folder as git finds `.git`, or named.

    .vla/
      workspace.json              schema and the version that made it
      captions.jsonl              every caption known, one annotation a line
      cache/<fingerprint>/        frozen features of one encoder and sampling
      runs/<name>/                trained projectors
      index/                      the index that `vla search` reads

Everything in it can be made anew from the videos and captions; nothing of it lies beside the videos themselves.
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
from vla.naming.matching import Names
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
    """The paths of one workspace. `root` is the folder that holds `.vla/`."""

    root: Path

    @property
    def home(self) -> Path:
        """The `.vla` folder itself."""
        return self.root / FOLDER

    @property
    def captions(self) -> Path:
        """Annotations known to this workspace."""
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
        """The folder of the run called `name`; raises UsageError for what cannot be a name."""
        return self.runs / require_name(name, "a run")

    @property
    def index(self) -> Path:
        """The index that searches read."""
        return self.home / "index"

    def locked(self, progress: ProgressCallback, *, reading: bool = False) -> AbstractContextManager[None]:
        """Hold the workspace; waits for another vla that does, and says so. Who is only `reading` needs no leave to write."""
        return locks.lock(self._lock, _waits(progress, "workspace"), or_without=reading)

    def locked_index(self, progress: ProgressCallback, *, reading: bool = False) -> AbstractContextManager[None]:
        """Hold the index while writing to it. Features may be added meanwhile: an index is of what was there when it was begun.

        Whoever needs both locks takes this one last.
        """
        return locks.lock(self.home / "index.lock", _waits(progress, "index"), or_without=reading)

    def is_busy(self) -> bool:
        """Whether a vla holds the workspace just now."""
        return locks.holder(self._lock) is not None

    @property
    def _lock(self) -> Path:
        return self.home / "lock"

    def video_id(self, path: Path) -> str:
        """The name of the video at `path` in this workspace: relative to `root` if it lies below, else absolute."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links and change names
        try:
            return absolute.relative_to(self.root).as_posix()
        except ValueError:
            return absolute.as_posix()

    def video_named(self, given: Path | str, known: Iterable[str]) -> str:
        """The video among `known` that a name or a path means; see `vla.naming.matching`.

        Raises:
            MissingError: none is.
            UsageError: several are.
        """
        return Names(known, self.root).one(str(given), self.root, Path.cwd())

    def video_path(self, video_id: str) -> Path:
        """Where the video called `video_id` lies."""
        return self.root / video_id

    @classmethod
    def find(cls, start: Path | str | None = None, *, check: bool = True) -> Workspace | None:
        """The workspace of exactly the folder `start` or `$VLA_WORKSPACE`; without these, of the current folder or one above.

        A folder that was named is never searched upwards: a name that is mistyped must not reach another workspace.

        Raises:
            UsageError: `start` is empty or a file.
            CacheError: the workspace was made by a newer version, or its description is damaged.
        """
        named = _named(start)
        candidates = [named] if named is not None else [here := Path.cwd(), *here.parents]
        for folder in candidates:
            if _is_file(folder / FOLDER / "workspace.json"):
                workspace = cls(folder)
                if check:
                    workspace.check()
                return workspace
        return None

    @classmethod
    def open(cls, start: Path | str | None = None, *, check: bool = True) -> Workspace:
        """Like `find`, but there must be one. Without `check` its description may be damaged, for those who mend it.

        Raises:
            MissingError: there is none; the message tells how to make one.
        """
        found = cls.find(start, check=check)
        if found is not None:
            return found
        named = _named(start)
        if named is None:
            raise MissingError(
                f"no workspace ({FOLDER}/) in {Path.cwd()} or above it",
                hint=Hint("make_workspace", variable=VARIABLE),
            )
        above = next((p for p in named.parents if (p / FOLDER / "workspace.json").is_file()), None)
        raise MissingError(
            f"no workspace ({FOLDER}/) in {named}" + (f": there is one in {above}" if above else ""),
            hint=Hint("name_workspace", folder=FOLDER) if above else Hint("make_workspace", variable=VARIABLE),
        )

    @classmethod
    def choose(cls, folder: Path | str | None = None) -> Workspace:
        """The workspace that `open_or_create` opens or makes; nothing is written, and it need not be there."""
        named = _named(folder)
        if named is None:
            found = cls.find()
            if found is not None:
                return found
            named = Path.cwd()
        workspace = cls(named)
        if _is_file(workspace.home / "workspace.json"):
            workspace.check()
        return workspace

    @classmethod
    def open_or_create(cls, folder: Path | str | None = None) -> Workspace:
        """The workspace of `folder` (found upwards when None), made where there is none yet."""
        workspace = cls.choose(folder)
        description = workspace.home / "workspace.json"
        if not _is_file(description):
            atomic.write_json(description, {"schema": SCHEMA})
        return workspace

    def check(self) -> None:
        """Raises CacheError if the workspace was made by a newer version, or its description is damaged."""
        records.load(_Description, self.home / "workspace.json", Hint("repair_workspace"), schema=SCHEMA)


def _named(folder: Path | str | None) -> Path | None:
    """The folder that is named, here or by the variable; None where neither is. `x/.vla` names `x`."""
    given = os.environ.get(VARIABLE) or None if folder is None else folder
    if given is None:
        return None
    if not str(given).strip():
        raise UsageError("the workspace has an empty name: name the folder that holds .vla/, or leave the option out")
    named = Path(os.path.abspath(Path(given).expanduser()))  # noqa: PTH100 - links keep their names
    if named.exists() and not named.is_dir():
        raise UsageError(f"a workspace is a folder, and {named} is a file")
    return named.parent if named.name == FOLDER else named


def _is_file(path: Path) -> bool:
    """Whether it is there; not silent about folders of somebody else that cannot be looked into."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise ResourceError(f"{path} cannot be read: {error.strerror or error}") from error


def _waits(progress: ProgressCallback, what: str) -> Callable[[locks.Holder | None], None]:
    def say(holder: locks.Holder | None) -> None:
        who = f" ({holder})" if holder else ""
        message = f"Waiting for another vla process to release the {what} lock{who}."
        progress(Progress("wait", message=message, level="note"))

    return say
