"""`vla rm`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vla_cli import options as o


def rm(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, paths or glob patterns of extracted videos.",
            metavar="PATTERNS",
            show_default=False,
        ),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Also remove videos whose file is gone.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Delete the cached features of videos. The videos and their captions are kept.

    Examples:
        vla rm clip.mp4
        vla rm "old/*" --yes
        vla rm --missing
    """
    from vla.workflows import maintenance
    from vla_cli.render import plural, print_json, print_line, print_message, progress_bars

    if not patterns and not missing:
        raise typer.BadParameter("name videos, or pass --missing")
    with progress_bars(quiet) as progress:
        names = maintenance.remove(
            patterns or (), workspace=workspace, missing=missing, dry_run=True, progress=progress
        )
    if not names:
        if as_json:
            print_json({"removed": []})
        if not quiet:
            print_message("No video file is missing.")
        raise typer.Exit(1)
    if not yes:
        print_message(
            f"This deletes the features of {plural(len(names), 'video')}, e.g. {min(names)}"
        )
        if not sys.stdin.isatty():
            raise typer.BadParameter("not a terminal: pass --yes to confirm")
        typer.confirm("Continue?", abort=True, err=True)
    with progress_bars(quiet) as progress:
        removed = maintenance.remove(
            patterns or (), workspace=workspace, missing=missing, progress=progress
        )
    if as_json:
        print_json({"removed": removed})
    elif not quiet:
        print_line(f"Removed {plural(len(removed), 'video')}.")
        from vla_cli.next_step import has_index, print_next

        if has_index(workspace):
            print_next("index", workspace)
