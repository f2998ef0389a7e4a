"""`vla report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vla_cli import options as o


def report(
    run: Annotated[str, typer.Argument(help="Name of the run.")] = "default",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; - for standard output (default: RUN.html here).", show_default=False
        ),
    ] = None,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write a page about a run: what it was trained on, its curves, and its evaluations. One HTML file, no network."""
    from vla_cli.render import line, print_json

    if output is not None and str(output) in ("-", "/dev/stdout"):
        from vla.reports.run_report import page_of

        sys.stdout.write(page_of(run, workspace=workspace))
        return
    from vla import api

    path = api.report(run, output=output, workspace=workspace)
    if as_json:
        print_json({"path": str(path)})
    elif not quiet:
        line(f"wrote {path}")
