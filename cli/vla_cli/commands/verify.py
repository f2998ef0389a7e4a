"""`vla verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def verify(
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read everything and compare checksums, not only look for the files.")
    ] = False,
    mend: Annotated[
        bool, typer.Option("--mend", help="Forget what is damaged, so that the next extract makes it anew.")
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Check that all features are there and as they were written."""
    from vla.stages import upkeep
    from vla_cli.render import line, print_json, print_table, progress_bars

    with progress_bars(quiet) as progress:
        found = upkeep.verify(workspace=workspace, read_data=read_data, mend=mend, progress=progress)
    if as_json:
        print_json([{"name": d.name, "reason": d.reason} for d in found])
    elif found:
        print_table(("damaged", "what is wrong"), [(d.name, d.reason) for d in found], names=("damaged",))
        done = (
            "forgotten: run 'vla extract' (or 'vla import-features') again"
            if mend
            else "'vla verify --mend' forgets them, 'vla extract' (or 'vla import-features') makes them anew"
        )
        line(f"{len(found)} damaged; {done}")
    elif not quiet:
        line("sound" if read_data else "all files are there ('--read-data' also compares checksums)")
    if found:
        raise typer.Exit(4)
