"""`vla import-features`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla import ImportFeaturesReport

_FIELDS = ("video_id", "status", "reason", "frames", "duration_seconds", "codec")
_SAMPLING = "Sampling (for files without timestamps)"
_TEXTS = "Texts"


def import_features(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Feature files (.npy, .npz, .pt, .h5, .parquet, .tar), folders and glob patterns.",
            metavar="PATHS",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Name of the feature space, e.g. clip-vit-b32; different names are never mixed. "
            "Default: that of this "
            "workspace.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            "--features-key",
            help="Array or column of the features in each file.",
            metavar="KEY",
            show_default=False,
        ),
    ] = "",
    times_key: Annotated[
        str,
        typer.Option(
            "--timestamps-key",
            help="Array or column of the timestamps, in seconds, or in milliseconds if the name "
            "ends in _ms.",
            metavar="KEY",
            show_default=False,
        ),
    ] = "",
    strip: Annotated[
        str,
        typer.Option(
            "--strip-suffix",
            help="Suffix to strip from file names to get video names, e.g. _clip.",
            metavar="SUFFIX",
            show_default=False,
        ),
    ] = "",
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration",
            help="Duration of every video in seconds.",
            metavar="SECONDS",
            show_default=False,
        ),
    ] = None,
    durations: Annotated[
        Path | None,
        typer.Option(
            "--durations",
            help="Table with the columns video and duration.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            help="Features per second.",
            metavar="RATE",
            show_default=False,
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            help="Video frames per feature; requires --video-fps.",
            metavar="N",
            show_default=False,
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    video_fps: Annotated[
        float | None,
        typer.Option(
            "--video-fps",
            help="Video frames per second, for --stride.",
            metavar="RATE",
            show_default=False,
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    clip_length: Annotated[
        float | None,
        typer.Option(
            "--clip-length",
            help="Seconds per feature.",
            metavar="SECONDS",
            show_default=False,
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            help="Texts with their vectors: NPZ, NPY with JSON next to it, or JSONL.",
            metavar="FILE",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    texts_key: Annotated[
        str,
        typer.Option(
            "--texts-key",
            help="Array or field of the texts.",
            metavar="KEY",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = "",
    vectors_key: Annotated[
        str,
        typer.Option(
            "--vectors-key",
            help="Array or field of the vectors.",
            metavar="KEY",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = "",
    encoder_model: Annotated[
        str | None,
        typer.Option(
            "--encoder-model",
            help="Model that encodes new texts; it must be the one that computed the features.",
            metavar="MODEL",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    pretrained: o.Pretrained = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="Encoder plug-in of --encoder-model. Default: that of a preset, else open_clip.",
            metavar="NAME",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    change_encoder: Annotated[
        bool,
        typer.Option(
            "--change-encoder",
            help="Use these features in this workspace from now on. The old ones are kept.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Import all files again.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "-n", help="Read and check all files without writing anything."),
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Import precomputed frame features, e.g. released with a paper.

    Only new files are processed.

    Examples:
        vla import-features features/ --model clip-vit-b32 --fps 1
        vla import-features i3d.h5 --model i3d --stride 16 --video-fps 25
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.import_features(
            paths or (), model=model, key=key, times_key=times_key, strip=strip, fps=fps, stride=stride, video_fps=video_fps,
            clip_length=clip_length, duration=duration, durations=durations, texts=texts, texts_key=texts_key,
            vectors_key=vectors_key, encoder_model=encoder_model, pretrained=pretrained, encoder=encoder,
            workspace=workspace, change_encoder=change_encoder, overwrite=overwrite, dry_run=dry_run, progress=progress,
        )  # fmt: skip
    if as_json:
        rows = [{k: r.to_json()[k] for k in _FIELDS} for r in report.receipts]
        print_json({
            "videos": rows, "imported": report.num_videos, "replaced": report.updates, "frames": report.frames,
            "texts": report.texts, "other_texts": report.other_texts, "seconds": round(report.seconds, 3),
            "spec": report.spec.to_json() if report.spec else None, "omissions": report.omissions.to_json(),
        })  # fmt: skip
    else:
        _print_report(report, quiet, dry_run)
        if not (quiet or dry_run) and any(r.has_features for r in report.receipts):
            from vla_cli.next_step import after_features

            after_features(workspace, has_changes=report.num_videos > 0)
    if report.problems:
        raise typer.Exit(3)


def _print_report(report: ImportFeaturesReport, quiet: bool, dry_run: bool) -> None:
    """Print a table of problems, and a summary of the import."""
    from vla_cli.render import (
        format_duration,
        plural,
        print_line,
        print_message,
        print_omissions,
        print_table,
        stdout_console,
    )

    if report.problems:
        rows = [(r.video_id, r.codec, r.reason) for r in report.problems]
        print_table(
            ("video", "format", "cannot be imported"),
            rows,
            title=f"{plural(len(rows), 'video')} with problems",
        )
    if report.other_texts:
        print_message(
            f"{plural(len(report.other_texts), 'text')} with another vector in the workspace "
            f"than in the file, e.g. "
            f"{report.other_texts[0]!r}; the vectors of the workspace are kept",
            style="yellow",
        )
    if quiet:
        return
    verb = "Would import" if dry_run else "Imported"
    if report.receipts:
        durations = [r.duration_seconds for r in report.receipts if r.has_features]
        counts = f"{plural(report.frames, 'frame')}, {len(report.updates):,} replaced"
        new = (
            f"{verb} {plural(report.num_videos, 'video')} ({counts})."
            if report.num_videos
            else "Nothing new to import."
        )
        total = plural(len(report.receipts), "video")
        print_line(f"{new} {len(durations):,} of {total} ok ({format_duration(sum(durations))}).")
    if report.texts:
        print_line(f"{verb} {plural(report.texts, 'text')}.")
    if report.spec:
        print_line(
            f"Features: {report.spec.model}, {report.spec.dim} dimensions, {report.spec.sampling}."
        )
    print_omissions(report.omissions, stdout_console())
