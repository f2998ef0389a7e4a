"""`vla import-features`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla import ImportFeaturesReport

_FIELDS = ("video_id", "status", "reason", "frames", "duration_seconds", "codec")


def import_features(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files of features (.npy, .npz, .pt, .h5, .parquet, .tar), folders and glob patterns.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Name of the feature space, e.g. clip-vit-b32; two names never mix (default: as before).",
            show_default=False,
        ),
    ] = None,
    key: Annotated[str, typer.Option("--key", help="Name of the features in each file.", show_default=False)] = "",
    times_key: Annotated[
        str,
        typer.Option(
            "--times-key", help="Name of their times; in milliseconds if it is like x_ms.", show_default=False
        ),
    ] = "",
    strip: Annotated[
        str, typer.Option("--strip", help="Take this off the end of names, e.g. _clip.", show_default=False)
    ] = "",
    fps: Annotated[
        float | None, typer.Option("--fps", help="Features per second, for files without times.", show_default=False)
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Instead: every so many frames of the video.", show_default=False)
    ] = None,
    video_fps: Annotated[
        float | None, typer.Option("--video-fps", help="With --stride: frames per second.", show_default=False)
    ] = None,
    clip_length: Annotated[
        float | None, typer.Option("--clip-length", help="Instead: seconds for each feature.", show_default=False)
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", help="Length of every video in seconds.", show_default=False)
    ] = None,
    durations: Annotated[
        Path | None, typer.Option("--durations", help="Table with the columns video and duration.", show_default=False)
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Texts with their vectors: NPZ, NPY beside JSON, JSONL.", show_default=False),
    ] = None,
    texts_key: Annotated[str, typer.Option("--texts-key", help="Name of the texts in it.", show_default=False)] = "",
    vectors_key: Annotated[str, typer.Option("--vectors-key", help="Name of the vectors.", show_default=False)] = "",
    encoder_model: Annotated[
        str | None,
        typer.Option("--encoder-model", help="Model to encode new texts with: the features' own.", show_default=False),
    ] = None,
    pretrained: o.Pretrained = None,
    encoder: Annotated[str, typer.Option("--encoder", help="Encoder plug-in for --encoder-model.")] = "open_clip",
    switch: Annotated[bool, typer.Option("--switch", help="Go on with these features; the old ones are kept.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Read everything anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Read and check everything, keep nothing.")] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Cache frame features that others released, to train, index and search with. Does only what is new."""
    import vla
    from vla_cli.render import print_json, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.import_features(
            paths or (), model=model, key=key, times_key=times_key, strip=strip, fps=fps, stride=stride, video_fps=video_fps,
            clip_length=clip_length, duration=duration, durations=durations, texts=texts, texts_key=texts_key,
            vectors_key=vectors_key, encoder_model=encoder_model, pretrained=pretrained, encoder=encoder,
            workspace=workspace, switch=switch, overwrite=overwrite, dry_run=dry_run, progress=progress,
        )  # fmt: skip
    if as_json:
        rows = [{k: r.to_json()[k] for k in _FIELDS} for r in report.receipts]
        print_json({
            "videos": rows, "imported": report.num_videos, "replaced": report.updates, "frames": report.frames,
            "texts": report.texts, "other_texts": report.other_texts, "seconds": round(report.seconds, 3),
            "spec": report.spec.to_json() if report.spec else None, "omissions": report.omissions.to_json(),
        })  # fmt: skip
    else:
        _summary(report, quiet, dry_run)
    if report.problems:
        raise typer.Exit(3)


def _summary(report: ImportFeaturesReport, quiet: bool, dry_run: bool) -> None:
    """What was done, and a line for each problem."""
    from vla_cli.render import clock, line, out, plural, print_left_out, print_table, say

    if report.problems:
        rows = [(r.video_id, r.codec, r.reason) for r in report.problems]
        print_table(
            ("video", "format", "cannot be used because"), rows, title=f"{plural(len(rows), 'video')} with problems"
        )
    if report.other_texts:
        some = f"another vector here than in the file: {plural(len(report.other_texts), 'text')}"
        say(f"{some}, e.g. {report.other_texts[0]!r}; what was here stays", style="yellow")
    if quiet:
        return
    verb = "to import" if dry_run else "imported now"
    if report.receipts:
        good = [r for r in report.receipts if r.has_features]
        new = f"{report.num_videos} {verb} ({plural(report.frames, 'frame')}, {len(report.updates)} of them replaced)"
        length = clock(sum(r.duration_seconds for r in good))
        done = new if report.num_videos else "nothing new"
        line(f"{plural(len(report.receipts), 'video')}: {done}, {len(good)} ok, {length} in all")
    if report.texts:
        line(f"{plural(report.texts, 'text')} {verb}")
    if report.spec:
        line(f"features of {report.spec.model!r}, {report.spec.dim} wide, {report.spec.sampling}")
    print_left_out(report.omissions, out())
