"""`vla import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.workflows.import_annotations import ImportReport

_MAX_EXAMPLES = 5


def import_annotations(
    format: Annotated[
        str | None,
        typer.Argument(
            help="Format of the files; --list lists them.", metavar="FORMAT", show_default=False
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Annotation files.", metavar="FILES", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="JSONL file to write. Default: FORMAT.jsonl in the current folder.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="Keep only this split; rows without a split are assigned to it.",
            metavar="NAME",
            show_default=False,
        ),
    ] = "",
    as_paragraphs: Annotated[
        bool, typer.Option("--paragraphs", help="Write paragraphs instead of their sentences.")
    ] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Skip invalid rows instead of refusing the file.")
    ] = False,
    videos: Annotated[
        Path | None,
        typer.Option(
            "--videos",
            help="Folder of the videos. Default: the workspace.",
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing output file.")
    ] = False,
    list_formats: Annotated[
        bool, typer.Option("--list", help="List the formats and their files.")
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Convert the annotations of a data set to one JSONL file of captions and questions.

    Prints what the files contain, and which of the videos are present.

    Examples:
        vla import --list
        vla import msrvtt train_val_videodatainfo.json --output msrvtt.jsonl
    """
    from vla.workflows import import_annotations
    from vla_cli.render import print_json, print_table, progress_bars

    if list_formats:
        formats = import_annotations.list_formats()
        if as_json:
            print_json(formats)
        else:
            print_table(("format", "files"), list(formats.items()))
        return
    if not format or not files:
        raise typer.BadParameter(
            "pass a format and its files; `vla import --list` lists the formats"
        )
    with progress_bars(quiet) as progress:
        report = import_annotations.import_annotations(
            format, files, output=output or Path(f"{format}.jsonl"), split=split, as_paragraphs=as_paragraphs,
            skip_invalid=skip_invalid, videos=videos, workspace=workspace, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(report.summary())
    elif not quiet:
        _print_report(report)
        from vla_cli.next_step import after_import

        if report.output is not None:
            after_import(report.output, workspace)


def _print_report(report: ImportReport) -> None:
    """Print counts of annotations, times and videos."""
    from vla_cli.render import plural, print_line, print_omissions, print_table, stdout_console

    summary = report.summary()
    rows = [
        (f"split {name}" if name else "no split", n["annotations"], n["videos"])
        for name, n in summary["splits"].items()
    ]
    rows += [(kind, count, "") for kind, count in summary["kinds"].items()]
    rows += [(f"  {category}", count, "") for category, count in summary["categories"].items()]
    print_table(("", "annotations", "videos"), rows, numeric=("annotations", "videos"))
    videos = plural(summary["videos"], "video")
    invalid = f"; skipped {plural(report.left_out, 'invalid row')}" if report.left_out else ""
    print_line(
        f"Wrote {plural(summary['annotations'], 'annotation')} of {videos} to "
        f"{report.output}{invalid}."
    )
    print_line(_describe_times(summary))
    if summary["coverage"] is not None:
        coverage = summary["coverage"]
        print_line(f"{coverage['there']:,} of {videos} are in {coverage['where']}.")
        for names, problem in (
            (coverage["missing"], "missing"),
            (coverage["ambiguous"], "ambiguous"),
        ):
            if names:
                more = ", ..." if len(names) > _MAX_EXAMPLES else ""
                print_line(f"{len(names):,} {problem}: {', '.join(names[:_MAX_EXAMPLES])}{more}")
    print_omissions(report.omissions, stdout_console())


def _describe_times(summary: dict[str, Any]) -> str:
    from vla_cli.render import plural

    spans = summary["spans"]
    if spans is None:
        return "No times: all annotations describe whole videos."
    parts = [
        f"{plural(spans['spans'], 'span')} in {plural(spans['annotations'], 'annotation')} "
        f"({spans['with_several']:,} with several), {spans['shortest']:.4g} to "
        f"{spans['longest']:.4g} s, "
        f"median {spans['median']:.4g} s"
    ]
    if spans["after_the_end"]:
        parts.append(f"{spans['after_the_end']:,} end after their video")
    if summary["paragraphs"]:
        parts.append(plural(summary["paragraphs"], "paragraph"))
    if summary["rated"]:
        parts.append(f"{summary['rated']:,} with saliency ratings")
    return "; ".join(parts) + "."
