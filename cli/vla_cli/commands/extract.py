"""`vla extract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.cache.build import ExtractReport
    from vla.workflows.estimate import Estimate

_FIELDS = (
    "video_id",
    "status",
    "reason",
    "cause",
    "frames",
    "duration_seconds",
    "coverage",
    "codec",
)


def extract(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders (searched recursively) and glob patterns.", metavar="PATHS"
        ),
    ],
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
        str | None,
        typer.Option(
            help="Decoder plug-in: isolated (separate processes), pyav, torchcodec, or fastest "
            "(measured). Default: isolated.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Decoding threads. Default: one per CPU core.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    sidecars: Annotated[
        bool, typer.Option(help="Also read captions next to videos: x.srt, x.vtt, x.txt, x.json.")
    ] = True,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry videos that failed or are partial.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Extract all videos again.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", "-n", help="Count videos, frames and bytes without writing anything."
        ),
    ] = False,
    change_encoder: Annotated[
        bool,
        typer.Option(
            "--change-encoder",
            help="Use another encoder or sampling in this workspace. The old features are kept.",
        ),
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
    """Extract and cache features of videos and captions.

    Only new videos are processed. If the command is interrupted, run it again
    to continue.

    Examples:
        vla extract ~/Videos
        vla extract . --captions captions.csv
        vla extract "clips/*.mp4" --fps 1 --dry-run
    """
    import vla
    from vla_cli.render import print_json, print_omissions, progress_bars, stderr_console

    choice = vla.EncoderChoice(
        model,
        pretrained,
        encoder,
        o.sampling_rule(fps, num_frames, keyframes, scenes),
        device,
        dtype,
    )
    if dry_run:
        with progress_bars(quiet) as progress:
            estimate = vla.estimate(
                paths, workspace=workspace, choice=choice, decoder=decoder, change_encoder=change_encoder,
                retry_failed=retry_failed, overwrite=overwrite, progress=progress,
            )  # fmt: skip
        if as_json:
            print_json(estimate.to_json())
        else:
            _print_estimate(estimate)
        return
    with progress_bars(quiet) as progress:
        report = vla.extract(
            paths, captions=captions, workspace=workspace, choice=choice, decoder=decoder, sidecars=sidecars,
            change_encoder=change_encoder,
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
        _print_report(report, quiet)
        if not quiet and any(r.has_features for r in report.receipts):
            from vla_cli.next_step import after_features

            has_changes = bool(report.extracted or report.renamed)
            after_features(workspace, has_changes=has_changes, captions=report.captions)
    has_unreadable_folder = "unreadable-folder" in report.omissions.counts
    if has_unreadable_folder and quiet:
        print_omissions(report.omissions, stderr_console(), style="yellow")
    if report.problems or has_unreadable_folder:
        raise typer.Exit(3)


def _print_estimate(estimate: Estimate) -> None:
    """Print what an extraction would do."""
    from vla_cli.render import (
        format_bytes,
        format_duration,
        plural,
        print_line,
        print_omissions,
        print_table,
        stdout_console,
    )

    if estimate.unreadable:
        print_table(("video", "cannot be read"), list(estimate.unreadable.items()))
    others = f", {estimate.done:,} done already" if estimate.done else ""
    others += f", {estimate.taken_over:,} reusing features" if estimate.taken_over else ""
    count = len(estimate.todo) - len(estimate.unreadable)
    if count:
        print_line(
            f"{plural(count, 'video')} to extract "
            f"({format_duration(estimate.video_seconds)}){others}."
        )
        print_line(
            f"About {plural(estimate.frames, 'frame')}, {format_bytes(estimate.bytes)} of features."
        )
    else:
        print_line(f"Nothing to extract{others}.")
    print_omissions(estimate.omissions, stdout_console())


def _print_report(report: ExtractReport, quiet: bool) -> None:
    """Print a table of problems, and a summary of the extraction."""
    from vla_cli.render import plural, print_line, print_omissions, print_table, stdout_console

    if report.problems:
        rows = [(r.status, r.video_id, r.reason) for r in report.problems]
        print_table(
            ("status", "video", "reason"), rows, title=f"{plural(len(rows), 'video')} with problems"
        )
    if quiet:
        return
    print_line(_summary(report) if report.videos else "No videos.")
    if report.captions:
        new_texts = plural(report.texts, "new text")
        print_line(f"{plural(report.captions, 'caption')} in the workspace; encoded {new_texts}.")
    print_omissions(report.omissions, stdout_console())


def _summary(report: ExtractReport) -> str:
    """Return the number of new videos and frames, and that of all videos with features."""
    from vla_cli.render import format_duration, plural

    count = len(report.videos)
    num_ok = count - len(report.problems)
    duration = format_duration(report.video_seconds)
    rate = f" at {report.frames / report.seconds:.0f} frames/s" if report.seconds > 0 else ""
    counts = f"{plural(report.extracted, 'video')} ({plural(report.frames, 'frame')}"
    if report.extracted == count == num_ok:
        return f"Extracted {counts}, {duration}){rate}."
    start = f"Processed {counts}){rate}." if report.extracted else "Nothing new to extract."
    return f"{start} {num_ok:,} of {plural(count, 'video')} ok ({duration})."
