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
        bool, typer.Option("--repair", "--mend", help="Remove what is damaged, so that it is made anew.")
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Check that all files of the workspace are there and as they were written: features, captions, runs, index.

    Exits with 4 when something is damaged, with 0 when nothing is. Without --repair nothing is written.
    """
    from vla.workflows import verify
    from vla_cli.render import line, print_json, print_table, progress_bars

    with progress_bars(quiet) as progress:
        found = verify.verify(workspace=workspace, read_data=read_data, mend=mend, progress=progress)
    if as_json:
        print_json([{"name": d.name, "reason": d.reason} for d in found])
    elif found:
        print_table(("damaged", "what is wrong"), [(d.name, d.reason) for d in found], names=("damaged",))
        done = (
            "removed: run 'vla extract' (or 'vla import-features'), 'vla train' and 'vla index' again, as far as they were run"
            if mend
            else "'vla verify --repair' removes what is damaged, and the command that made it makes it anew"
        )
        line(f"{len(found)} damaged; {done}")
    elif not quiet:
        line("sound" if read_data else "all files are there ('--read-data' also compares checksums)")
    if found:
        raise typer.Exit(4)
