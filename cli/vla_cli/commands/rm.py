"""`vla rm`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vla_cli import options as o


def rm(
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Names, paths or glob patterns of extracted videos.", show_default=False)
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Also every video whose file is gone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Forget videos: their features go; the videos themselves and their captions stay."""
    from vla.workflows import maintenance
    from vla_cli.render import line, plural, print_json, progress_bars, say

    if not patterns and not missing:
        raise typer.BadParameter("say which videos, or --missing")
    with progress_bars(quiet) as progress:
        names = maintenance.remove(
            patterns or (), workspace=workspace, missing=missing, dry_run=True, progress=progress
        )
    if not names:
        if as_json:
            print_json({"removed": []})
        say("nothing found: no video is missing")
        raise typer.Exit(1)
    if not yes:
        say(f"the features of {plural(len(names), 'video')} are to be deleted, e.g. {min(names)}")
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody is there to ask: give --yes")
        typer.confirm("Go on?", abort=True, err=True)
    with progress_bars(quiet) as progress:
        removed = maintenance.remove(patterns or (), workspace=workspace, missing=missing, progress=progress)
    if as_json:
        print_json({"removed": removed})
    elif not quiet:
        line(f"{plural(len(removed), 'video')} forgotten; 'vla index' brings the index up to date")
