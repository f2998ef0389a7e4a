"""`vla import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.workflows.import_annotations import ImportReport

_NAMED = 5


def import_annotations(
    format: Annotated[
        str | None, typer.Argument(help="What the files are: --list names all.", show_default=False)
    ] = None,
    files: Annotated[list[Path] | None, typer.Argument(help="The files.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSONL to write (default: FORMAT.jsonl here).", show_default=False),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Only this split; what names none is then of it.", show_default=False)
    ] = "",
    as_paragraphs: Annotated[
        bool, typer.Option("--paragraphs", help="Paragraphs in place of their sentences.")
    ] = False,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help="Leave out faulty rows instead of refusing the file.")
    ] = False,
    videos: Annotated[
        Path | None,
        typer.Option("--videos", help="Folder to look for the videos in (default: the workspace).", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it is there.")] = False,
    list_formats: Annotated[bool, typer.Option("--list", help="List the formats and their files.")] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Turn annotations of any form into one file of captions and questions, and say what is in it."""
    from vla.workflows import import_annotations
    from vla_cli.render import print_json, print_table, progress_bars

    if list_formats:
        known = import_annotations.list_formats()
        if as_json:
            print_json(known)
        else:
            print_table(("format", "files"), list(known.items()))
        return
    if not format or not files:
        raise typer.BadParameter("name a format and its files; 'vla import --list' names the formats")
    with progress_bars(quiet) as progress:
        report = import_annotations.import_annotations(
            format, files, output=output or Path(f"{format}.jsonl"), split=split, as_paragraphs=as_paragraphs,
            skip_faulty=skip_faulty, videos=videos, workspace=workspace, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(report.summary())
    elif not quiet:
        _show(report)


def _show(report: ImportReport) -> None:
    """What was read, in counts."""
    from vla_cli.render import line, out, plural, print_left_out, print_table

    found = report.summary()
    left_out = f"; {report.left_out} faulty rows left out" if report.left_out else ""
    rows = [
        (f"split {name}" if name else "no split", n["annotations"], n["videos"]) for name, n in found["splits"].items()
    ]
    rows += [(kind, count, "") for kind, count in found["kinds"].items()]
    rows += [(f"  {category}", count, "") for category, count in found["categories"].items()]
    print_table(("", "annotations", "videos"), rows, numeric=("annotations", "videos"))
    line(
        f"{plural(found['annotations'], 'annotation')} of {plural(found['videos'], 'video')}{left_out}: {report.output}"
    )
    line(_times(found))
    if report.coverage is not None:
        looked = report.coverage
        line(f"{looked.there} of {plural(found['videos'], 'video')} are in {looked.where}")
        for names, what in ((looked.missing, "missing"), (looked.ambiguous, "named like several")):
            if names:
                some = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
                line(f"{len(names)} {what}: {some}")
    print_left_out(report.omissions, out())


def _times(found: dict[str, Any]) -> str:
    spans = found["spans"]
    if spans is None:
        return "no times: everything tells of whole videos"
    text = (
        f"{spans['spans']} spans for {spans['annotations']} annotations ({spans['with_several']} have several), "
        f"{spans['shortest']:.4g} to {spans['longest']:.4g} s, median {spans['median']:.4g} s"
    )
    if spans["after_the_end"]:
        text += f"; {spans['after_the_end']} end after their video"
    parts = [f"{found[name]} {name}" for name in ("paragraphs", "rated") if found[name]]
    return "; ".join([text, *parts])
