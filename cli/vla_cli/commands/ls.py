"""`vla ls`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def ls(
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Names, paths or glob patterns; all videos without.", show_default=False)
    ] = None,
    status: Annotated[
        str, typer.Option("--status", help="Only these: ok, partial, skipped, failed or missing.", show_default=False)
    ] = "",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
) -> None:
    """List the videos of this workspace."""
    from vla.workflows import maintenance
    from vla_cli.render import clock, print_json, print_table, progress_bars, say

    if status not in ("", "ok", "partial", "skipped", "failed", "missing"):
        raise typer.BadParameter(f"--status is ok, partial, skipped, failed or missing, not {status!r}")
    with progress_bars(False) as progress:
        listed = maintenance.list_videos(patterns or (), workspace=workspace, progress=progress)
    entries = [e for e in listed if not status or (e.is_missing if status == "missing" else e.receipt.status == status)]
    if as_json:
        print_json([e.to_json() for e in entries])
    elif entries:
        rows = [
            (e.receipt.video_id, e.receipt.status + (" (missing)" if e.is_missing else ""), clock(e.receipt.duration_seconds),
             e.receipt.frames, e.captions, e.receipt.codec, e.receipt.reason)
            for e in entries
        ]  # fmt: skip
        columns = ("video", "status", "length", "frames", "captions", "codec", "remark")
        print_table(columns, rows, numeric=("length", "frames", "captions"))
    if not entries:
        say(f"nothing found: no video is {status}" if status else "nothing found: there is no video here yet")
        raise typer.Exit(1)
