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
        str | None, typer.Option("--video", help="List the captions of this video.", show_default=False)
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove",
            help="Forget the captions of this file; the file stays. Repeatable.",
            metavar="SOURCE",
            show_default=False,
        ),
    ] = None,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """List the files that captions are from, list the captions of a video, or forget the captions of a file."""
    import vla
    from vla_cli.render import line, plural, print_json, progress_bars

    if video is not None and remove:
        raise typer.BadParameter("give one of --video and --remove")
    if remove:
        with progress_bars(quiet) as progress:
            gone = vla.remove_captions(remove, workspace=workspace, progress=progress)
        if as_json:
            print_json(gone)
        elif not quiet:
            for source, count in gone.items():
                line(f"{source}: {plural(count, 'caption')} forgotten; the file stays, and can be given again")
        return
    if video is not None:
        found = vla.video_captions(video, workspace=workspace)
        if as_json:
            print_json([entry.to_json() for entry in found])
        else:
            _rows(found)
        return
    sources = vla.list_captions(workspace=workspace)
    if as_json:
        print_json([source.to_json() for source in sources])
    elif sources:
        _table(sources)
    if not sources:
        raise typer.Exit(1)


def _rows(found: list[CaptionEntry]) -> None:
    from vla_cli.render import clock, print_table

    rows = [
        (
            ", ".join(f"{clock(start)} - {clock(end)}" for start, end in entry.annotation.spans) or "whole video",
            entry.annotation.query,
            entry.annotation.split,
            entry.source,
            "stale: the video was replaced" if entry.is_stale else "",
        )
        for entry in found
    ]
    print_table(("time", "caption", "split", "source", "remark"), rows)


def _table(sources: list[CaptionSource]) -> None:
    from vla_cli.render import print_table

    rows = [
        (
            s.source,
            s.captions,
            s.questions,
            s.videos,
            ", ".join(f"{name or 'none'} {count}" for name, count in s.splits.items()),
            s.stale,
            "; ".join(["beside its video"] * s.is_beside + ["the file is gone"] * s.is_missing),
        )
        for s in sources
    ]
    heads = ("source", "captions", "questions", "videos", "splits", "stale", "remark")
    print_table(heads, rows, numeric=("captions", "questions", "videos", "stale"))
