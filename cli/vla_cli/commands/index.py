"""`vla index`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def index(
    run: Annotated[
        str | None,
        typer.Option(
            help="Trained run to use; 'none' for the frozen encoder (default: the default run, if it beats the frozen encoder).",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="Index plug-in.")] = "faiss_flat",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Build the index that 'vla search' reads."""
    from vla import api
    from vla_cli.render import out, print_json, progress_bars, say

    with progress_bars(quiet) as progress:
        report = api.index(workspace=workspace, run=run, backend=backend, progress=progress)
    if as_json:
        print_json(report.__dict__)
        return
    for note in report.notes:
        say(note, style="yellow")
    made = f"with run {report.run!r}" if report.run else "with the frozen encoder"
    out().print(
        f"{report.segments} segments of {report.videos} videos indexed {made} ({report.backend}, {report.megabytes:.1f} MB)"
    )
