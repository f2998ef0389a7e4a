"""`vla export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_cli import options as o


def export(
    dest: Annotated[Path, typer.Argument(help="Folder to write to.", show_default=False)],
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Names, paths or glob patterns; all videos without.", show_default=False)
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="npy, parquet or webdataset.")] = "npy",
    run: Annotated[
        str,
        typer.Option("--run", help="raw: as they are cached; none: the frozen encoder's; or a run that aligns them."),
    ] = "raw",
    per_shard: Annotated[int, typer.Option("--per-shard", min=1, help="Videos in a file of several, at most.")] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write features, and what is known to be told of the videos, to files that others read."""
    import vla
    from vla_cli.render import line, plural, print_json, print_table, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.export(
            dest, patterns or (), format=format, run=run, per_shard=per_shard, overwrite=overwrite, workspace=workspace,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({**report.__dict__, "folder": str(report.folder)})
    else:
        if report.failures:
            print_table(("damaged", "what is wrong"), list(report.failures.items()), names=("damaged",))
        if not quiet:
            line(
                f"{plural(len(report.videos), 'video')} ({plural(report.frames, 'frame')}) and {plural(report.texts, 'text')} in "
                f"{plural(len(report.files), 'file')}"
            )
    if report.failures:
        raise typer.Exit(3)
