"""`vla extract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.cache.build import ExtractReport
    from vla.stages.estimate import Estimate

_FIELDS = ("video_id", "status", "reason", "cause", "frames", "duration_seconds", "coverage", "codec")


def extract(
    paths: Annotated[list[str], typer.Argument(help="Videos, folders (searched recursively) and glob patterns.")],
    captions: o.Captions = None,
    model: o.Model = None,
    pretrained: o.Pretrained = None,
    fps: o.Fps = None,
    num_frames: o.NumFrames = None,
    keyframes: o.Keyframes = False,
    scenes: o.Scenes = False,
    encoder: o.EncoderName = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    decoder: Annotated[
        str | None, typer.Option(help="isolated (own processes), pyav, torchcodec, or fastest (tried).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Decoding threads (default: one a core).", show_default=False)
    ] = None,
    sidecars: Annotated[
        bool, typer.Option(help="Also read captions beside videos: x.srt, x.vtt, x.txt, x.json.")
    ] = True,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed or came out partial.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Extract everything anew.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "-n", help="Only count the videos, frames and bytes; write nothing."),
    ] = False,
    switch: Annotated[
        bool, typer.Option("--switch", help="Go on with another encoder; old features are kept.")
    ] = False,
    format: o.Format = None,
    video_column: o.VideoColumn = "",
    caption_column: o.CaptionColumn = "",
    start_column: o.StartColumn = "",
    end_column: o.EndColumn = "",
    split_column: o.SplitColumn = "",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Cache frozen features of videos and captions. Does only what is new; a killed run goes on where it was."""
    from vla import api
    from vla_cli.render import err, print_json, print_left_out, progress_bars

    choice = api.EncoderChoice(
        model, pretrained, encoder, o.sampling(fps, num_frames, keyframes, scenes), device, dtype
    )
    if dry_run:
        with progress_bars(quiet) as progress:
            planned = api.estimate(
                paths, workspace=workspace, choice=choice, decoder=decoder, switch=switch, retry_failed=retry_failed,
                overwrite=overwrite, progress=progress,
            )  # fmt: skip
        if as_json:
            print_json(planned.to_json())
        else:
            _outlook(planned)
        return
    with progress_bars(quiet) as progress:
        report = api.extract(
            paths, captions=captions, workspace=workspace, choice=choice, decoder=decoder, sidecars=sidecars, switch=switch,
            columns=o.columns(video_column, caption_column, start_column, end_column, split_column), format=format,
            retry_failed=retry_failed, overwrite=overwrite, workers=workers, progress=progress,
        )  # fmt: skip
    if as_json:
        rows = [{k: r.to_json()[k] for k in _FIELDS} for r in report.receipts]
        print_json({
            "videos": rows, "extracted": report.extracted, "frames": report.frames, "seconds": round(report.seconds, 3),
            "captions": report.captions, "texts": report.texts, "unknown": report.unknown_videos, "renamed": report.renamed,
            "omissions": report.omissions.to_json(),
            "warnings": report.warnings,
        })  # fmt: skip
    else:
        _summary(report, quiet)
    shut = "unreadable-folder" in report.omissions.counts
    if shut and quiet:
        print_left_out(report.omissions, err(), style="yellow")
    if report.problems or shut:
        raise typer.Exit(3)


def _outlook(planned: Estimate) -> None:
    """Say what would be done."""
    from vla_cli.render import clock, line, out, plural, print_left_out, print_table, size

    if planned.unreadable:
        print_table(("video", "cannot be read because"), list(planned.unreadable.items()))
    done = f"; {planned.done:,} done already" if planned.done else ""
    done += f"; {planned.taken_over:,} keep their features" if planned.taken_over else ""
    good = len(planned.todo) - len(planned.unreadable)
    if good:
        line(f"{plural(good, 'video')} to extract, {clock(planned.video_seconds)} of video{done}")
        line(f"about {plural(planned.frames, 'frame')} and {size(planned.bytes)} of features")
    else:
        line(f"nothing to extract{done}")
    print_left_out(planned.omissions, out())


def _summary(report: ExtractReport, quiet: bool) -> None:
    """Say what was done, with a line for each problem."""
    from vla_cli.render import clock, line, out, plural, print_left_out, print_table

    good = len(report.videos) - len(report.problems)
    if report.problems:
        rows = [(r.status, r.video_id, r.reason) for r in report.problems]
        print_table(("status", "video", "reason"), rows, title=f"{plural(len(rows), 'video')} with problems")
    if quiet:
        return
    if report.videos:
        rate = f", {report.frames / report.seconds:.0f} frames/s" if report.extracted and report.seconds > 0 else ""
        new = f"{report.extracted} extracted now ({plural(report.frames, 'frame')}{rate}), "
        done = new if report.extracted else "nothing new, "
        count = plural(len(report.videos), "video")
        line(f"{count}: {done}{good} ok, {clock(report.video_seconds)} of video with features")
    else:
        line("no videos found")
    if report.captions:
        line(f"{plural(report.captions, 'caption')} in the workspace, {plural(report.texts, 'text')} encoded now")
    print_left_out(report.omissions, out())
