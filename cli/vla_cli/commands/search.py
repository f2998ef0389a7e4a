"""`vla search`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.search.hits import Hit
    from vla.search.limits import Limits

_FILTER = "Which videos"
_SHAPE = "What is printed"


def search(
    query: Annotated[
        str | None, typer.Argument(help="What to look for, in words.", metavar="QUERY", show_default=False)
    ] = None,
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
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            help="Instead of QUERY: a file with a query on each line; - for standard input.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", help="Instead of QUERY: a picture to find the like of.", show_default=False),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like", help="Instead of QUERY: a moment to find the like of.", metavar="VIDEO@TIME", show_default=False
        ),
    ] = None,
    inside: Annotated[
        list[str] | None,
        typer.Option(
            "--in",
            help="Only videos in this folder, or whose names fit, e.g. '2024/*.mp4'; may be repeated.",
            show_default=False,
            rich_help_panel=_FILTER,
        ),
    ] = None,
    outside: Annotated[
        list[str] | None,
        typer.Option("--not-in", help="Only others; may be repeated.", show_default=False, rich_help_panel=_FILTER),
    ] = None,
    longer: Annotated[
        str | None,
        typer.Option("--longer", help="At least so long: 90, 1:30, 2h.", show_default=False, rich_help_panel=_FILTER),
    ] = None,
    shorter: Annotated[
        str | None, typer.Option("--shorter", help="At most so long.", show_default=False, rich_help_panel=_FILTER)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Files last changed on this day or later: 2024-05-01.",
            show_default=False,
            rich_help_panel=_FILTER,
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", help="Files last changed before this day.", show_default=False, rich_help_panel=_FILTER
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
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help="A JSON object on each line.", rich_help_panel=_SHAPE)
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table with commas.", rich_help_panel=_SHAPE)] = False,
    as_paths: Annotated[
        bool, typer.Option("--paths", help="The path of each video that was found, once.", rich_help_panel=_SHAPE)
    ] = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="End paths with a zero byte, for xargs -0.", rich_help_panel=_SHAPE)
    ] = False,
    quiet: o.Quiet = False,
) -> None:
    """Find moments by words. With folders, what is new in them is extracted and indexed first.

    Exits with 1 when nothing is found, as grep does: with --fpr 0.05, in 19 of 20 searches for what is not here.
    """
    from vla import api
    from vla_cli.render import print_json, progress_bars

    shapes = [as_json, as_jsonl, as_csv, as_paths or null]
    if sum(shapes) > 1:
        raise typer.BadParameter("give one of --json, --jsonl, --csv and --paths")
    instead = [option for option in (queries, image, like) if option is not None]
    if len(instead) > 1:
        raise typer.BadParameter("give one of --queries, --image and --like")
    if not instead and query is None:
        raise typer.BadParameter("say what to look for, or give --queries, --image or --like", param_hint="QUERY")
    asked = _lines(queries) if queries is not None else [query] if query is not None and not instead else []
    if instead and query is not None:
        # Then there is no query in front of the folders.
        paths = [query, *(paths or [])]
    limits = _limits(inside, outside, longer, shorter, since, before)
    choice = api.EncoderChoice(model, pretrained, encoder, o.sampling(fps), device, dtype)
    with progress_bars(quiet) as progress:
        hits = api.search(
            asked, paths or (), k=k, per_video=per_video, fpr=fpr, limits=limits, image=image, like=like,
            workspace=workspace, choice=choice, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json([hit.to_json() for hit in hits])
    elif as_jsonl:
        _print_lines(hits)
    elif as_csv:
        _print_csv(hits)
    elif as_paths or null:
        _print_paths(hits, b"\0" if null else b"\n")
    elif queries is None:
        _print_table(hits, "")
    else:
        for text in dict.fromkeys(asked):
            _print_table([hit for hit in hits if hit.query == _stripped(text)], text)
    if not hits:
        raise typer.Exit(1)


def _stripped(query: str) -> str:
    """As hits have it."""
    return query.replace("\0", " ").strip()


def _print_table(hits: list[Hit], title: str) -> None:
    from vla_cli.render import clock, out, print_table, shown

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
    if rows:
        print_table(heads, rows, title=title, numeric=("rank", "score", "confidence", "peak"))
    elif title:
        out().print(f"{shown(title)}: nothing")


def _print_lines(hits: list[Hit]) -> None:
    import json

    for hit in hits:
        sys.stdout.write(json.dumps(hit.to_json(), ensure_ascii=True, allow_nan=False) + "\n")


def _print_csv(hits: list[Hit]) -> None:
    import csv

    columns = ("query", "rank", "score", "confidence", "video", "start", "end", "peak", "path", "missing")
    # Names of any bytes, as the file system has them.
    sys.stdout.reconfigure(errors="surrogateescape", newline="")  # type: ignore[union-attr]
    table = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(hit.to_json() for hit in hits)


def _print_paths(hits: list[Hit], end: bytes) -> None:
    import os

    # Of imported features there may be no file, only a name.
    found = dict.fromkeys(hit.path or hit.video_id for hit in hits)
    sys.stdout.flush()
    sys.stdout.buffer.write(b"".join(os.fsencode(path) + end for path in found))
    sys.stdout.buffer.flush()


def _lines(path: Path) -> list[str]:
    """The queries in a file, one a line; blank lines are none."""
    from vla.errors import UsageError

    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        lines = data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"the queries cannot be read from {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the queries in {path} are no UTF-8 text (byte {error.start}): save them as UTF-8") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise UsageError(f"there is no query in {path}: write one on each line")
    return found


def _limits(
    inside: list[str] | None, outside: list[str] | None, longer: str | None, shorter: str | None, since: str | None,
    before: str | None,
) -> Limits:  # fmt: skip
    from vla.search.limits import Limits

    given = {
        "least_seconds": None if longer is None else _seconds(longer, "--longer"),
        "most_seconds": None if shorter is None else _seconds(shorter, "--shorter"),
        "since": None if since is None else _day(since, "--since"),
        "before": None if before is None else _day(before, "--before"),
    }
    return Limits(tuple(inside or ()), tuple(outside or ()), **{k: v for k, v in given.items() if v is not None})


def _seconds(text: str, option: str) -> float:
    """Seconds of `90`, `1:30`, `1:02:03`, `90s`, `5m` or `2h`."""
    from vla.datasets._times import parse_seconds
    from vla.errors import AnnotationError

    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    try:
        found = parse_seconds(text) if unit is None else parse_seconds(text[:-1]) * unit
    except AnnotationError:
        found = -1.0
    if found < 0:
        raise typer.BadParameter(f"{text!r} is no length: give seconds, or e.g. 1:30, 5m, 2h", param_hint=option)
    return found


def _day(text: str, option: str) -> float:
    """Seconds since 1970 when that day began here."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise typer.BadParameter(f"{text!r} is no day: write it like 2024-05-01", param_hint=option) from error


def _copies(count: int) -> str:
    return f" (and {count} cop{'y' if count == 1 else 'ies'})" if count else ""
