"""`vla export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_cli import options as o


def export(
    dest: Annotated[
        Path, typer.Argument(help="Output folder.", metavar="DEST", show_default=False)
    ],
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, paths or glob patterns. Default: all videos.",
            metavar="PATTERNS",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="Format: npy, parquet or webdataset.", metavar="FORMAT"
        ),
    ] = "npy",
    run: Annotated[
        str,
        typer.Option(
            "--run",
            help="Features to export: raw (as cached), none (normalized zero-shot), or a run "
            "(aligned).",
            metavar="NAME",
        ),
    ] = "raw",
    per_shard: Annotated[
        int,
        typer.Option("--per-shard", min=1, help="Maximum number of videos per shard.", metavar="N"),
    ] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Export features and captions to files for other tools.

    Exits with 3 if features of some videos are damaged.

    Examples:
        vla export features/
        vla export features/ "2024/*" --format parquet --run default
    """
    import vla
    from vla_cli.render import plural, print_json, print_line, print_table, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.export(
            dest, patterns or (), format=format, run=run, per_shard=per_shard, overwrite=overwrite, workspace=workspace,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({**report.__dict__, "folder": str(report.folder)})
    else:
        if report.failures:
            print_table(("damaged", "reason"), list(report.failures.items()), names=("damaged",))
        if not quiet:
            videos, frames = plural(len(report.videos), "video"), plural(report.frames, "frame")
            texts, files = plural(report.texts, "text"), plural(len(report.files), "file")
            print_line(f"Exported {videos} ({frames}) and {texts} to {files}.")
    if report.failures:
        raise typer.Exit(3)
