"""`vla demo`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.evaluation.results import MetricResult
    from vla.workflows.demo import DemoReport
    from vla.workflows.demo_real import RealDemoReport
    from vla.workflows.demo_suggestions import Suggestion

_MEASURES = ("R@1", "R@5", "R@10", "R1@0.5", "R1@0.7", "mIoU", "accuracy")
_TASKS_LEFT_OUT = ("video to texts",)
"""Nearly the same as `video to text`."""


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Output folder. Default: vla-demo, or vla-demo-real with --real.",
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="Search real pictures, with the encoder offline: photographs of scikit-image, or "
            "--videos.",
        ),
    ] = False,
    videos: Annotated[
        list[Path] | None,
        typer.Option(
            "--videos",
            help="With --real: a video, or a folder of videos. Repeatable. At most 40 videos of 30 "
            "minutes together are taken, drawn at random.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    queries: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            help="With --real: a text to search for. Repeatable.",
            metavar="TEXT",
            show_default=False,
        ),
    ] = None,
    clips: Annotated[
        int,
        typer.Option(
            min=12,
            max=100_000,
            help="Number of clips; a quarter of them are test clips.",
            metavar="N",
        ),
    ] = 320,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**32 - 1, help="Random seed of the generated data set.", metavar="N"
        ),
    ] = 0,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Show in two minutes and without network what vla does.

    Renders clips of moving shapes, extracts, trains, evaluates, indexes and
    searches them, and draws the hits in FOLDER/searches.png. With --real,
    searches real pictures without training; this needs
    pip install 'vla-toolkit[offline]'.

    Examples:
        vla demo
        vla demo my-demo --clips 60
        vla demo --real --videos ~/Videos
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    if not real and (videos or queries):
        raise typer.BadParameter("requires --real", param_hint="--videos" if videos else "--query")
    with progress_bars(quiet) as progress:
        report: DemoReport | RealDemoReport
        if real:
            report = vla.demo_real(
                folder, videos or (), queries=queries or (), seed=seed, progress=progress
            )  # fmt: skip
        else:
            report = vla.demo(folder, clips=clips, seed=seed, progress=progress)
    if as_json:
        print_json(report.to_json())
    elif isinstance(report, vla.RealDemoReport):
        _print_real_report(report)
    else:
        _print_report(report)


def _print_report(report: DemoReport) -> None:
    """Print metrics, example searches, the picture and suggestions."""
    from vla_cli.render import plural, print_line, print_table

    tests = plural(report.clips["test"], "test clip")
    rows = [
        (
            m.task,
            m.measure,
            "" if m.frozen is None else f"{m.frozen:.1f}",
            f"{m.value:.1f}",
            *_gain(m),
        )
        for m in report.metrics
        if m.measure in _MEASURES and m.task not in _TASKS_LEFT_OUT
    ]
    print_table(
        ("task", "measure", "frozen", "trained", "95 % interval of the gain", ""),
        rows,
        title=f"{tests}, most in pairs that no single frame can tell apart",
        numeric=("frozen", "trained", "95 % interval of the gain"),
    )
    print_line(
        "Percent, higher is better. R@k: the right video is among the first k. R1@t: the first "
        "moment overlaps the right one by t (intersection over union); mIoU: mean overlap. "
        "= is no difference beyond chance."
    )
    print_line("")
    print_table(
        ("search", "right in", "frozen", "trained"),
        [
            (e.query, plural(e.right, "clip"), _rank(e.frozen_rank), _rank(e.rank))
            for e in report.examples
        ],
        title="Rank of the first right hit, of ten (-: none is right)",
        numeric=("right in", "frozen", "trained"),
    )
    print_line(_summary(report))
    print_line(f"Searches: {report.rule}.")
    train_clips = plural(report.clips["train"], "clip")
    print_line(f"Trained on {train_clips}: {report.verdict}.")
    _print_seconds(report.seconds)
    print_line("")
    print_line(f"Look at the hits: {report.sheet}")
    print_line("Try next:")
    print_line(f"  cd {shlex.quote(_relative(report.folder))}")
    for suggestion in report.suggestions:
        print_line(f"  {shlex.join(command_of(suggestion))}")
        print_line(f"      {suggestion.outcome}")


def command_of(suggestion: Suggestion) -> list[str]:
    """Return the command line that tries a suggestion in the folder of the demo."""
    options = {
        "search": [],
        "negative": ["--not", suggestion.second],
        "sequence": ["--then", suggestion.second],
        "absent": ["--max-fpr", "0.05"],
        "question": [suggestion.video],
    }[suggestion.kind]
    command = "ask" if suggestion.kind == "question" else "search"
    return ["vla", command, suggestion.text, *options]


def _print_real_report(report: RealDemoReport) -> None:
    """Print the first hit of each search, the picture and the next commands."""
    from vla_cli.render import format_time, plural, print_line, print_table

    is_known = any(example.rank is not None for example in report.examples)
    rows = []
    for example in report.examples:
        video, moment = "", "nothing found"
        if example.hits:
            video, start, end, _ = example.hits[0]
            moment = f"{format_time(start)} - {format_time(end)}"
        rank = [_rank(example.rank or 0)] if is_known else []
        rows.append((example.query, video, moment, *rank))
    print_table(
        ("search", "video", "first hit", *(["first right"] if is_known else [])),
        rows,
        title=f"{plural(report.videos, 'video')}, frozen encoder, no training",
        numeric=("first hit", "first right"),
    )
    if is_known:
        right = sum(example.rank == 1 for example in report.examples)
        print_line(f"First hit right: {right} of {len(report.examples)} (-: none of ten is right).")
    print_line(f"Searches: {report.rule}.")
    if report.total > report.videos:
        print_line(
            f"{report.videos} of {plural(report.total, 'video')} were searched; for all: vla extract PATH"
        )
    print_line(
        "The encoder knows a thousand kinds of things, and no people, places or actions: `vla models` "
        "lists better ones."
    )
    _print_seconds(report.seconds)
    print_line("")
    print_line(f"Look at the hits: {report.sheet}")
    print_line("Try next:")
    print_line(f"  cd {shlex.quote(_relative(report.folder))}")
    print_line(
        f"  {shlex.join(['vla', 'search', report.examples[0].query if report.examples else 'a dog'])}"
    )


def _print_seconds(seconds: dict[str, float]) -> None:
    from vla_cli.render import print_line

    print_line("Seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))


def _gain(result: MetricResult) -> tuple[str, str]:
    """Return the interval of the gain, and a word for its sign."""
    if result.gain is None:
        return "", ""
    low, high = result.gain
    return f"{low:+.1f} to {high:+.1f}", {1: "better", 0: "=", -1: "worse"}[result.gain_sign]


def _rank(rank: int) -> str:
    return str(rank) if rank else "-"


def _summary(report: DemoReport) -> str:
    from vla.workflows.demo_searches import count_right

    parts = []
    for num_hits, name in ((1, "first"), (2, "among the first two")):
        frozen, ours = count_right(report.examples, num_hits)
        parts.append(f"right {name}: frozen {frozen}, trained {ours}")
    return f"Of {len(report.examples)} searches, " + "; ".join(parts) + "."


def _relative(folder: str) -> str:
    """Return `folder` relative to the current folder if it lies in it."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder
