"""`vla search`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import filter_options as f
from vla_cli import options as o
from vla_cli.hits import print_csv, print_hit_omissions, print_hits, print_lines, print_paths
from vla_cli.parsing import duration_range, read_queries, seconds, weighted_texts
from vla_cli.render import print_json, print_message, progress_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vla.retrieval.hits import Hit

_TEXTS = "Query texts"
_OUTPUT = "Output format"


def search(
    query: Annotated[
        str | None, typer.Argument(help="Text to search for.", metavar="QUERY", show_default=False)
    ] = None,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Videos and folders to extract and index first, if they are new.",
            metavar="PATHS",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        int, typer.Option("-k", "--top-k", min=1, help="Number of moments.", metavar="N")
    ] = 10,
    per_video: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of moments per video. Default: 3, or more where there are fewer "
            "hits than requested.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    max_fpr: Annotated[
        float | None,
        typer.Option(
            "--max-fpr",
            help="Hide hits whose estimated false-positive rate exceeds RATE, e.g. 0.05. "
            "Default: show all.",
            metavar="RATE",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            help="Range of moment durations: 2-10, 30s-2m, 5- or any. Default: estimated from "
            "timed captions if there are at least 50.",
            metavar="MIN-MAX",
            show_default=False,
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            help="Search for each line of FILE instead of QUERY; - reads standard input.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image", help="Search by image instead of text.", metavar="FILE", show_default=False
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            help="Find moments similar to this one instead of QUERY, e.g. clip.mp4@1:30.",
            metavar="VIDEO@TIME",
            show_default=False,
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            help="Also match TEXT. Repeatable. TEXT^0.5 sets the weight (default 1).",
            metavar="TEXT",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option(
            "--not",
            help="Rank moments that match TEXT lower. Repeatable. TEXT^0.5 sets the weight "
            "(default 0.25).",
            metavar="TEXT",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(
            "--then",
            help="Find QUERY followed by TEXT in the same video. Repeatable for longer sequences.",
            metavar="TEXT",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            "--within",
            help="Maximum time between the best frames of consecutive events, e.g. 30s or 1:30. "
            "Default: no limit.",
            metavar="TIME",
            show_default=False,
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    prompt_templates: Annotated[
        bool,
        typer.Option(
            "--prompt-templates",
            help="Average each text with 'a photo of TEXT' and 'a video of TEXT'.",
            rich_help_panel=_TEXTS,
        ),
    ] = False,
    no_rewrite: Annotated[
        bool,
        typer.Option(
            "--no-rewrite",
            help="Search for questions as written. Default: 'when does a dog jump?' becomes 'a "
            "dog jumps'.",
            rich_help_panel=_TEXTS,
        ),
    ] = False,
    include: f.Include = None,
    exclude: f.Exclude = None,
    min_video_duration: f.MinVideoDuration = None,
    max_video_duration: f.MaxVideoDuration = None,
    modified_after: f.ModifiedAfter = None,
    modified_before: f.ModifiedBefore = None,
    where: f.Where = None,
    model: o.Model = None,
    pretrained: o.Pretrained = None,
    fps: o.Fps = None,
    encoder: o.EncoderName = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    as_jsonl: Annotated[
        bool,
        typer.Option("--jsonl", help="Print one JSON object per line.", rich_help_panel=_OUTPUT),
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV.", rich_help_panel=_OUTPUT)
    ] = False,
    as_paths: Annotated[
        bool,
        typer.Option("--paths", help="Print the path of each video once.", rich_help_panel=_OUTPUT),
    ] = False,
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            help="Print paths that end with a zero byte, for xargs -0.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    quiet: o.Quiet = False,
) -> None:
    """Find moments by text, image or example.

    Videos in PATHS that are new are extracted and indexed first. Exits with 1
    if there are no hits; use --max-fpr to hide hits of queries that match
    nothing.
    """
    import vla

    formats = [as_json, as_jsonl, as_csv, as_paths or null]
    if sum(formats) > 1:
        raise typer.BadParameter("use only one of --json, --jsonl, --csv and --paths")
    alternatives = [option for option in (queries, image, like) if option is not None]
    if len(alternatives) > 1:
        raise typer.BadParameter("use only one of --queries, --image and --like")
    if not alternatives and query is None:
        raise typer.BadParameter(
            "pass a text to search for, --queries, --image or --like", param_hint="QUERY"
        )
    if within is not None and not then:
        raise typer.BadParameter("requires --then TEXT", param_hint="--within")
    texts = (
        read_queries(queries)
        if queries is not None
        else [query]
        if query is not None and not alternatives
        else []
    )
    if alternatives and query is not None:
        # Without a query, the first argument is a path.
        paths = [query, *(paths or [])]
    if not alternatives:
        _require_quotes(query or "", paths or [])
    if not texts and (also or then or prompt_templates or no_rewrite or duration):
        raise typer.BadParameter(
            "--also, --then, --prompt-templates, --no-rewrite and --duration require a text, not "
            "--image or --like"
        )
    negatives = weighted_texts(negative, vla.NEGATIVE_WEIGHT, "--not")
    durations = None if duration is None else duration_range(duration, "--duration")
    text_queries = [
        vla.Query(
            text, weighted_texts(also, 1.0, "--also"), negatives, tuple(then or ()),
            math.inf if within is None else seconds(within, "--within"), prompt_templates, not no_rewrite, durations,
        )
        for text in texts
    ]  # fmt: skip
    filters = f.video_filter(
        include, exclude, min_video_duration, max_video_duration, modified_after, modified_before, where
    )  # fmt: skip
    choice = vla.EncoderChoice(model, pretrained, encoder, o.sampling_rule(fps), device, dtype)
    with progress_bars(quiet) as progress:
        hits = vla.search(
            text_queries, paths or (), k=k, per_video=per_video, max_fpr=max_fpr, filters=filters, image=image, like=like,
            negative=() if texts else negatives, workspace=workspace, choice=choice, progress=progress,
        )  # fmt: skip
    print_hit_omissions(hits)
    titles = [text_query.title for text_query in text_queries] if queries is not None else None
    _print(hits, formats, b"\0" if null else b"\n", titles)
    if not hits:
        if not quiet:
            print_message(
                "No hits."
                if max_fpr is None
                else f"No hits: nothing here matches at a false-positive rate of {max_fpr:g}. Without "
                "--max-fpr, vla lists the best moments of any query."
            )
        raise typer.Exit(1)


def _print(hits: Sequence[Hit], formats: list[bool], end: bytes, titles: list[str] | None) -> None:
    """Print in the selected format; as tables, print one for each of `titles`, or one without."""
    as_json, as_jsonl, as_csv, as_paths = formats
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
    """Refuse the words of an unquoted query: the shell passes all but the first as paths."""
    missing = [
        path for path in paths if not any(c in path for c in "*?[/\\") and not os.path.lexists(path)
    ]
    if missing:
        text = " ".join([query, *paths])
        raise typer.BadParameter(
            f'no file or folder {missing[0]!r}. If it belongs to the query, put the query in quotes: vla search "{text}"',
            param_hint="QUERY",
        )
