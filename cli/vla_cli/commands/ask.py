"""`vla ask`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla.errors import MissingError
from vla_cli import options as o
from vla_cli.usage_errors import CommandLineError, quote


def ask(
    question: Annotated[str, typer.Argument(help="The question.", metavar="QUESTION")],
    videos: Annotated[
        list[str] | None,
        typer.Argument(help="Videos, by name or path.", metavar="VIDEOS", show_default=False),
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option(
            "--choice",
            help="An answer to choose from; pass at least two.",
            metavar="TEXT",
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Ask about every video.")] = False,
    run: Annotated[
        str | None,
        typer.Option(
            help="Trained run. Default: the newest with a head for such questions.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    moments: Annotated[
        int, typer.Option(min=1, help="Supporting moments per video.", metavar="N")
    ] = 3,
    device: o.Device = "auto",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Answer a question about videos with a trained head.

    Prints the answer, the answer of a model that was trained on the text alone,
    and the supporting moments. If both answers are the same, the video may not
    have mattered.

    Examples:
        vla ask "What colour is the car?" clip.mp4
        vla ask "Who wins?" clip.mp4 --choice "the dog" --choice "the cat"
    """
    import vla
    from vla_cli.render import format_time, print_json, print_table, progress_bars

    try:
        with progress_bars(quiet) as progress:
            answers = vla.ask(
                question, videos or (), choices=choices or (), every=every, run=run, moments=moments,
                workspace=workspace, device=device, progress=progress,
            )  # fmt: skip
    except MissingError as error:
        # The shell passes all words of an unquoted question but the first as videos.
        if not videos or len(question.split()) > 1 or len(videos) == 1:
            raise
        words = quote(question, *videos)
        raise CommandLineError(
            str(error), f"put quotes around a question of several words: vla ask {words}"
        ) from error
    if as_json:
        print_json([answer.to_json() for answer in answers])
        return
    rows = [
        (
            answer.video_id,
            answer.answer,
            "" if answer.kind == "count" else f"{answer.others[0][1]:.2f}",
            f"{answer.others[0][1]:.2f}"
            if answer.kind == "count"
            else ", ".join(text for text, _ in answer.others[1:4]),
            answer.unseen,
            ", ".join(
                f"{format_time(start)} - {format_time(end)}" for start, end, _ in answer.moments
            ),
        )
        for answer in answers
    ]
    is_count = bool(answers) and answers[0].kind == "count"
    heads = ("video", "answer", "probability", "before rounding" if is_count else "next answers")
    print_table(
        (*heads, "text-only answer", "moments"), rows, numeric=("probability", "before rounding")
    )
