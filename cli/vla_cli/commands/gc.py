"""`vla gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def gc(
    all_caches: Annotated[
        bool, typer.Option("--all-caches", help="Also delete features of encoders that are no longer used here.")
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Delete what nothing refers to: what killed runs and newer extractions left behind."""
    from vla.workflows import maintenance
    from vla_cli.render import line, plural, print_json, progress_bars, size

    with progress_bars(quiet) as progress:
        files, freed = maintenance.gc(workspace=workspace, all_caches=all_caches, progress=progress)
    if as_json:
        print_json({"files": files, "bytes": freed})
    elif not quiet:
        line(f"{plural(files, 'file')} deleted, {size(freed)} freed" if files else "nothing to delete")
