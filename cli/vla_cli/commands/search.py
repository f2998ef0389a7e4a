"""`vla search`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in words.")],
    paths: Annotated[
        list[str] | None, typer.Argument(help="Extract and index what is new in these first.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="How many moments.")] = 10,
    per_video: Annotated[int, typer.Option(min=1, help="At most this many of one video.")] = 3,
    fpr: Annotated[
        float | None,
        typer.Option(
            "--fpr",
            help="Leave out what queries that nothing here matches find at a higher rate, e.g. 0.05 (default: nothing).",
            show_default=False,
        ),
    ] = None,
    model: o.Model = None,
    pretrained: o.Pretrained = None,
    fps: o.Fps = None,
    encoder: o.EncoderName = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Find moments by words. With folders, what is new in them is extracted and indexed first.

    Exits with 1 when nothing is found, as grep does: with --fpr 0.05, in 19 of 20 searches for what is not here.
    """
    from vla import api
    from vla_cli.render import clock, print_json, print_table, progress_bars

    choice = api.EncoderChoice(model, pretrained, encoder, o.sampling(fps), device, dtype)
    with progress_bars(quiet) as progress:
        hits = api.search(
            query, paths or (), k=k, per_video=per_video, fpr=fpr, workspace=workspace, choice=choice, progress=progress
        )
    if as_json:
        print_json([hit.to_json() for hit in hits])
    elif hits:
        rows = [
            (
                hit.rank,
                f"{hit.score:.3f}",
                "" if hit.confidence is None else f"{hit.confidence:.3f}",
                hit.video_id + (" (missing)" if hit.is_missing else "") + _copies(len(hit.copies)),
                f"{clock(hit.start)} - {clock(hit.end)}",
                clock(hit.peak),
            )
            for hit in hits
        ]
        heads = ("rank", "score", "confidence", "video", "moment", "peak")
        print_table(heads, rows, numeric=("rank", "score", "confidence", "peak"))
    if not hits:
        raise typer.Exit(1)


def _copies(count: int) -> str:
    return f" (and {count} cop{'y' if count == 1 else 'ies'})" if count else ""
