"""`vla captions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.captions.store import CaptionEntry
    from vla.workflows.captions import CaptionSource


def captions(
    video: Annotated[
        str | None,
        typer.Option(
            "--video", help="List the captions of this video.", metavar="VIDEO", show_default=False
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove",
            help="Remove the captions of this file from the workspace. The file is kept. "
            "Repeatable.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """List or remove captions.

    Without options, lists the caption files of the workspace and exits with 1
    if there are none.

    Examples:
        vla captions
        vla captions --video clip.mp4
        vla captions --remove captions.csv
    """
    import vla
    from vla_cli.render import plural, print_json, print_line, progress_bars

    if video is not None and remove:
        raise typer.BadParameter("use only one of --video and --remove")
    if remove:
        with progress_bars(quiet) as progress:
            counts = vla.remove_captions(remove, workspace=workspace, progress=progress)
        if as_json:
            print_json(counts)
        elif not quiet:
            for source, count in counts.items():
                print_line(f"Removed {plural(count, 'caption')} of {source}. The file is kept.")
        return
    if video is not None:
        entries = vla.video_captions(video, workspace=workspace)
        if as_json:
            print_json([entry.to_json() for entry in entries])
        else:
            _print_entries(entries)
        return
    sources = vla.list_captions(workspace=workspace)
    if as_json:
        print_json([source.to_json() for source in sources])
    elif sources:
        _print_sources(sources)
    if not sources:
        raise typer.Exit(1)


def _print_entries(entries: list[CaptionEntry]) -> None:
    from vla_cli.render import format_time, print_table

    rows = [
        (
            ", ".join(
                f"{format_time(start)} - {format_time(end)}"
                for start, end in entry.annotation.spans
            )
            or "whole video",
            entry.annotation.query,
            entry.annotation.split,
            entry.source,
            "stale: the video was replaced" if entry.is_stale else "",
        )
        for entry in entries
    ]
    print_table(("time", "caption", "split", "source", "remark"), rows)


def _print_sources(sources: list[CaptionSource]) -> None:
    from vla_cli.render import print_table

    rows = []
    for s in sources:
        remarks = []
        if s.is_beside:
            remarks.append("next to its video")
        if s.is_missing:
            remarks.append("file is gone")
        splits = ", ".join(f"{name or 'none'} {count}" for name, count in s.splits.items())
        rows.append(
            (s.source, s.captions, s.questions, s.videos, splits, s.stale, "; ".join(remarks))
        )
    heads = ("source", "captions", "questions", "videos", "splits", "stale", "remark")
    print_table(heads, rows, numeric=("captions", "questions", "videos", "stale"))
