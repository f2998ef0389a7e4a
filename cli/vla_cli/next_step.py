"""The command that is useful next, as the last line on stderr."""

from __future__ import annotations

import shlex
from pathlib import Path

from vla.storage.workspace import Workspace
from vla_cli.formatting import print_message

_MIN_CAPTIONS = 100
"""Number of captions from which `vla train` is suggested; fewer rarely help."""


def after_features(workspace: Path | None, *, has_changes: bool, captions: int = 0) -> None:
    """Suggest to train, to index or to search, after features were extracted or imported.

    Args:
        workspace: the option `--workspace`.
        has_changes: whether the index, if there is one, is out of date now.
        captions: number of captions in the workspace.
    """
    here = Workspace.find(workspace)
    if here is None:
        return
    if captions >= _MIN_CAPTIONS and not any(here.runs.glob("*/run.json")):
        print_next("train", workspace)
    elif has_changes or not has_index(workspace):
        print_next("index", workspace)
    else:
        print_next('search "TEXT"', workspace)


def after_import(captions: Path, workspace: Path | None) -> None:
    """Suggest to use a file of captions that was written."""
    here = Workspace.find(workspace)
    has_features = here is not None and (here.caches / "current.json").is_file()
    command = "train" if has_features else "extract FOLDER"
    print_next(f"{command} --captions {shlex.quote(str(captions))}", workspace)


def has_index(workspace: Path | None) -> bool:
    """Return whether the workspace has a search index, up to date or not."""
    here = Workspace.find(workspace)
    return here is not None and (here.index / "index.json").is_file()


def print_next(command: str, workspace: Path | None = None) -> None:
    """Print `next: vla COMMAND`, with `-w` if the workspace would not be found without it."""
    if workspace is not None:
        nearest, here = Workspace.find(), Workspace.find(workspace)
        if here is not None and (nearest is None or nearest.root != here.root):
            command += f" -w {shlex.quote(str(workspace))}"
    print_message(f"next: vla {command}")
