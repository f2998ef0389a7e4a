"""`vla report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vla_cli import options as o


def report(
    run: Annotated[str, typer.Argument(help="Name of the run.", metavar="RUN")] = "default",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Output file; - writes to standard output. Default: RUN.html.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write a report of a run as one HTML file without external resources.

    The report has the training data, the settings, the training curves and the
    evaluations.

    Examples:
        vla report
        vla report mine --output mine.html
    """
    from vla_cli.render import print_json, print_line, progress_bars

    if output is not None and str(output) in ("-", "/dev/stdout"):
        from vla.reports.run_report import page_of

        sys.stdout.write(page_of(run, workspace=workspace))
        return
    import vla

    with progress_bars(quiet):
        path = vla.report(run, output=output, workspace=workspace)
    if as_json:
        print_json({"path": str(path)})
    elif not quiet:
        print_line(f"Wrote {path}")
