"""The folder a user works in: `.vla/`, found upwards from the current folder as git finds `.git`.

    .vla/
      workspace.json              schema and the version that made it
      captions.jsonl              every caption known, one annotation a line
      cache/<fingerprint>/        frozen features of one encoder and sampling
      runs/<name>/                trained projectors
      index/                      the index that `vla search` reads

Everything in it can be made anew from the videos and captions; nothing of it lies beside the videos themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from vla import durable
from vla.errors import CacheError, MissingError, UsageError
from vla.progress import Progress, ProgressCallback

SCHEMA = 1
FOLDER = ".vla"
VARIABLE = "VLA_WORKSPACE"


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

    @property
    def index(self) -> Path:
        """The index that searches read."""
        return self.home / "index"

    def locked(self, progress: ProgressCallback) -> AbstractContextManager[None]:
        """Hold the workspace while writing to it; waits for another vla that does, and says so."""
        note = Progress("wait", message="another vla is working in this workspace; waiting for it", level="note")
        return durable.locked(self._lock, lambda: progress(note))

    def locked_index(self, progress: ProgressCallback) -> AbstractContextManager[None]:
        """Hold the index while writing to it. Features may be added meanwhile: an index is of what was there when it was begun.

        Whoever needs both locks takes this one last.
        """
        note = Progress("wait", message="another vla is indexing this workspace; waiting for it", level="note")
        return durable.locked(self.home / "index.lock", lambda: progress(note))

    def is_busy(self) -> bool:
        """Whether a vla holds the workspace just now."""
        return durable.is_locked(self._lock)

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

    def video_named(self, given: Path | str, known: Container[str]) -> str:
        """The name of a video that is given by its name, if that is among `known`, or else by its path."""
        return str(given) if str(given) in known else self.video_id(Path(given).absolute())

    def video_path(self, video_id: str) -> Path:
        """Where the video called `video_id` lies."""
        return self.root / video_id

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace | None:
        """The workspace of `start` (default: `$VLA_WORKSPACE`, then the current folder) or of a folder above it.

        Raises:
            CacheError: it was made by a newer version, or its description is damaged.
        """
        explicit = os.environ.get(VARIABLE)
        if start is None and explicit:
            candidates = [Path(explicit).expanduser().absolute()]
        else:
            here = Path(start or Path.cwd()).absolute()
            candidates = [here, *here.parents]
        for folder in candidates:
            if (folder / FOLDER / "workspace.json").is_file():
                workspace = cls(folder)
                workspace._check()
                return workspace
        return None

    @classmethod
    def open(cls, start: Path | None = None) -> Workspace:
        """Like `find`, but there must be one.

        Raises:
            MissingError: there is none; the message says how to make one.
        """
        found = cls.find(start)
        if found is None:
            where = start or os.environ.get(VARIABLE) or Path.cwd()
            raise MissingError(
                f"no workspace ({FOLDER}/) in {where} or above it: run 'vla extract PATH...' here first, "
                f"or name one with --workspace or {VARIABLE}"
            )
        return found

    @classmethod
    def choose(cls, folder: Path | None = None) -> Workspace:
        """The workspace that `open_or_create` opens or makes; nothing is written, and it need not be there."""
        if folder is None:
            found = cls.find()
            if found is not None:
                return found
            folder = Path(os.environ.get(VARIABLE) or Path.cwd()).expanduser()
        folder = Path(folder)
        workspace = cls(folder.absolute())
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"a workspace is a folder, and {folder} is a file")
        if (workspace.home / "workspace.json").is_file():
            workspace._check()
        return workspace

    @classmethod
    def open_or_create(cls, folder: Path | None = None) -> Workspace:
        """The workspace of `folder` (found upwards when None), made where there is none yet."""
        workspace = cls.choose(folder)
        description = workspace.home / "workspace.json"
        if not description.is_file():
            durable.write_json(description, {"schema": SCHEMA})
        return workspace

    def _check(self) -> None:
        description = self.home / "workspace.json"
        try:
            schema = json.loads(description.read_text("utf-8"))["schema"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CacheError(f"{description} is damaged ({error}): delete it and run the command again") from error
        if not isinstance(schema, int) or schema > SCHEMA:
            raise CacheError(f"{self.home} has schema {schema!r}; this vla knows up to {SCHEMA}: upgrade vla")
