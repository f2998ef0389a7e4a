"""`vla search`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o
from vla_cli.hits import print_csv, print_hits, print_lines, print_paths, say_left_out
from vla_cli.parsing import length, limits, lines, seconds, weighted
from vla_cli.render import print_json, progress_bars, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vla.retrieval.hits import Hit

_MORE = "More than one text"
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
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            help="Another text that counts as much as QUERY, or as TEXT^WEIGHT says; may be repeated.",
            metavar="TEXT",
            show_default=False,
            rich_help_panel=_MORE,
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--not",
            help="What it should not be; TEXT^WEIGHT for another weight than 0.25; may be repeated.",
            metavar="TEXT",
            show_default=False,
            rich_help_panel=_MORE,
        ),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(
            "--then",
            help="What comes after it in the same video; repeated, one after the other.",
            metavar="TEXT",
            show_default=False,
            rich_help_panel=_MORE,
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            "--within",
            help="How long after, from best frame to best frame: 30s, 1:30 (default: any time).",
            metavar="TIME",
            show_default=False,
            rich_help_panel=_MORE,
        ),
    ] = None,
    templates: Annotated[
        bool,
        typer.Option(
            "--templates", help="Average with 'a photo of' and 'a video of' what is asked.", rich_help_panel=_MORE
        ),
    ] = False,
    literal: Annotated[
        bool,
        typer.Option(
            "--literal",
            help="Take questions as they are written ('when does a dog jump?' is looked for as 'a dog jumps').",
            rich_help_panel=_MORE,
        ),
    ] = False,
    lasting: Annotated[
        str | None,
        typer.Option(
            "--lasting",
            help="Only moments that last so long: 2-10, 30s-2m, 5- or any (default: about as long as those that captions tell "
            "of, where there are 50).",
            metavar="LEAST-MOST",
            show_default=False,
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
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            help="What a column of the captions says: camera=front, year>=2020, place='*beach*'; may be repeated.",
            metavar="CONDITION",
            show_default=False,
            rich_help_panel=_FILTER,
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
    import vla

    shapes = [as_json, as_jsonl, as_csv, as_paths or null]
    if sum(shapes) > 1:
        raise typer.BadParameter("give one of --json, --jsonl, --csv and --paths")
    instead = [option for option in (queries, image, like) if option is not None]
    if len(instead) > 1:
        raise typer.BadParameter("give one of --queries, --image and --like")
    if not instead and query is None:
        raise typer.BadParameter("say what to look for, or give --queries, --image or --like", param_hint="QUERY")
    if within is not None and not then:
        raise typer.BadParameter("give --then TEXT, too: what comes within that time", param_hint="--within")
    texts = lines(queries) if queries is not None else [query] if query is not None and not instead else []
    if instead and query is not None:
        # Then there is no query in front of the folders.
        paths = [query, *(paths or [])]
    if not instead:
        _require_quotes(query or "", paths or [])
    if not texts and (also or then or templates or literal or lasting):
        raise typer.BadParameter(
            "--also, --then, --templates, --literal and --lasting go with words, not with --image or --like"
        )
    unwanted = weighted(without, vla.NEGATIVE_WEIGHT, "--not")
    seconds_long = None if lasting is None else length(lasting, "--lasting")
    asked = [
        vla.Query(
            text, weighted(also, 1.0, "--also"), unwanted, tuple(then or ()),
            math.inf if within is None else seconds(within, "--within"), templates, literal, seconds_long,
        )
        for text in texts
    ]  # fmt: skip
    limited = limits(inside, outside, longer, shorter, since, before, where)
    choice = vla.EncoderChoice(model, pretrained, encoder, o.sampling(fps), device, dtype)
    with progress_bars(quiet) as progress:
        hits = vla.search(
            asked, paths or (), k=k, per_video=per_video, fpr=fpr, limits=limited, image=image, like=like,
            negative=() if texts else unwanted, workspace=workspace, choice=choice, progress=progress,
        )  # fmt: skip
    say_left_out(hits)
    _print(hits, shapes, b"\0" if null else b"\n", [one.title for one in asked] if queries is not None else None)
    if not hits:
        if not quiet:
            say("nothing found")
        raise typer.Exit(1)


def _print(hits: Sequence[Hit], shapes: list[bool], end: bytes, titles: list[str] | None) -> None:
    """In the shape that was asked for; as a table for each of `titles`, or one without a title."""
    as_json, as_jsonl, as_csv, as_paths = shapes
    if as_json:
        print_json([hit.to_json() for hit in hits])
    elif as_jsonl:
        print_lines(hits)
    elif as_csv:
        print_csv(hits)
    elif as_paths:
        print_paths(hits, end)
    elif titles is None:
        print_hits(hits, "")
    else:
        for title in dict.fromkeys(titles):
            print_hits([hit for hit in hits if hit.query == title], title)


def _require_quotes(query: str, paths: list[str]) -> None:
    """Refuse words of a query that the shell took apart: they stand where folders do, and no such folder is there."""
    absent = [path for path in paths if not any(c in path for c in "*?[/\\") and not os.path.lexists(path)]
    if absent:
        whole = " ".join([query, *paths])
        raise typer.BadParameter(
            f"{absent[0]!r} is no file or folder. If it belongs to the query, put the query in quotes: "
            f'vla search "{whole}"',
            param_hint="QUERY",
        )
