"""`vla gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def gc(
    all_caches: Annotated[
        bool,
        typer.Option(
            "--all-caches",
            help="Also delete features of encoders no longer used in this workspace.",
        ),
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Delete unused files, such as leftovers of killed commands and older extractions.

    Examples:
        vla gc
        vla gc --all-caches
    """
    from vla.workflows import maintenance
    from vla_cli.render import format_bytes, plural, print_json, print_line, progress_bars

    with progress_bars(quiet) as progress:
        files, num_bytes = maintenance.gc(
            workspace=workspace, all_caches=all_caches, progress=progress
        )
    if as_json:
        print_json({"files": files, "bytes": num_bytes})
    elif not quiet:
        print_line(
            f"Deleted {plural(files, 'file')} ({format_bytes(num_bytes)})."
            if files
            else "Nothing to delete."
        )
