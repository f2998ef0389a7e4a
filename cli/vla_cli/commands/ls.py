"""`vla ls`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o

_STATUSES = ("ok", "partial", "skipped", "failed", "missing")


def ls(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, paths or glob patterns. Default: all videos.",
            metavar="PATTERNS",
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        str,
        typer.Option(
            "--status",
            help=f"Only videos with this status: {', '.join(_STATUSES)}.",
            metavar="STATUS",
            show_default=False,
        ),
    ] = "",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """List the videos of the workspace.

    Exits with 1 if there are none.

    Examples:
        vla ls
        vla ls "2024/*" --status failed
    """
    from vla.workflows import maintenance
    from vla_cli.render import format_time, print_json, print_message, print_table, progress_bars

    if status and status not in _STATUSES:
        raise typer.BadParameter(f"invalid --status {status!r}: use one of {', '.join(_STATUSES)}")
    with progress_bars(quiet) as progress:
        entries = maintenance.list_videos(patterns or (), workspace=workspace, progress=progress)
    if status == "missing":
        entries = [e for e in entries if e.is_missing]
    elif status:
        entries = [e for e in entries if e.receipt.status == status]
    if as_json:
        print_json([e.to_json() for e in entries])
    elif entries:
        rows = [
            (e.receipt.video_id, e.receipt.status + (" (missing)" if e.is_missing else ""),
             format_time(e.receipt.duration_seconds), e.receipt.frames, e.captions, e.receipt.codec, e.receipt.reason)
            for e in entries
        ]  # fmt: skip
        columns = ("video", "status", "duration", "frames", "captions", "codec", "remark")
        print_table(columns, rows, numeric=("duration", "frames", "captions"))
    if not entries:
        if not quiet:
            print_message(
                f"No videos with status {status!r}."
                if status
                else "No videos in this workspace yet."
            )
        raise typer.Exit(1)
