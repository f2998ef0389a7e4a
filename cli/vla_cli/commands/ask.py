"""`vla ask`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    videos: Annotated[
        list[str] | None, typer.Argument(help="Videos to ask about, by name or path.", show_default=False)
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choice", help="One of the answers to choose from; give two or more.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Ask about every video.")] = False,
    run: Annotated[
        str | None,
        typer.Option(help="Trained run (default: the last one with a head for such questions).", show_default=False),
    ] = None,
    moments: Annotated[int, typer.Option(min=1, help="Moments to name for each video.")] = 3,
    device: o.Device = "auto",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Answer a question about videos by a trained head, with the moments that question and answer are found in.

    The answer without looking is that of a twin that learned from the words alone: where it is the same, the video need not have
    mattered.
    """
    import vla
    from vla_cli.render import clock, print_json, print_table, progress_bars

    with progress_bars(quiet) as progress:
        replies = vla.ask(
            question, videos or (), choices=choices or (), every=every, run=run, moments=moments, workspace=workspace,
            device=device, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json([reply.to_json() for reply in replies])
        return
    rows = [
        (
            reply.video_id,
            reply.answer,
            "" if reply.kind == "count" else f"{reply.others[0][1]:.2f}",
            ", ".join(
                answer if reply.kind != "count" else f"{value:.2f}" for answer, value in _rest(reply.kind, reply.others)
            ),
            reply.unseen,
            ", ".join(f"{clock(start)} - {clock(end)}" for start, end, _ in reply.moments),
        )
        for reply in replies
    ]
    heads = ("video", "answer", "probability", "before rounding" if replies and replies[0].kind == "count" else "then")
    print_table((*heads, "without looking", "moments"), rows, numeric=("probability", "before rounding"))


def _rest(kind: str, others: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """What else there is to say: the other answers, or the number itself."""
    return others if kind == "count" else others[1:4]
