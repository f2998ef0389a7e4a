"""`vla eval`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from collections.abc import Callable

    from vla.evaluation.report_file import EvaluationReport
    from vla.evaluation.results import MetricResult

_TASKS = "retrieval, paragraphs, moments, partial, corpus, highlights, questions, grounding"


def evaluate(
    captions: o.Captions = None,
    split: Annotated[
        str,
        typer.Option(
            help="Split to evaluate; held-out selects the videos that the run was not trained "
            "on. Default: all.",
            metavar="NAME",
            show_default=False,
        ),
    ] = "",
    run: Annotated[
        str | None,
        typer.Option(
            help="Trained run; none evaluates the frozen encoder. Default: the run that `vla "
            "index` uses.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            "-t",
            help=f"Tasks to evaluate, separated by commas: {_TASKS}. Default: all.",
            metavar="NAMES",
            show_default=False,
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            help="Folder for prediction files in the formats of the official evaluators.",
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search/--no-search", help="Also evaluate the hits of `vla search`; slower."
        ),
    ] = True,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of the bootstrap.", metavar="N")
    ] = 0,
    device: o.Device = "auto",
    format: o.Format = None,
    video_column: o.VideoColumn = "",
    caption_column: o.CaptionColumn = "",
    start_column: o.StartColumn = "",
    end_column: o.EndColumn = "",
    split_column: o.SplitColumn = "",
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Evaluate a run with the official protocols.

    Each metric comes with a 95 % confidence interval, the score of the frozen
    encoder and vision-blind baselines.

    Examples:
        vla eval
        vla eval --captions test.jsonl --split test
        vla eval --run none --tasks retrieval,moments
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    names = [name.strip() for text in tasks or () for name in text.split(",") if name.strip()]
    with progress_bars(quiet) as progress:
        report = vla.evaluate(
            captions=o.single_file(captions), split=split, run=run,
            tasks=names, submission=submission, search=search, seed=seed, device=device,
            columns=o.columns(video_column, caption_column, start_column, end_column, split_column), format=format,
            workspace=workspace, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
        if report.run and not quiet:
            from vla_cli.next_step import print_next

            print_next(f"report {shlex.quote(report.run)}", workspace)


def _print_report(report: EvaluationReport) -> None:
    """Print a table of all tasks and its legend."""
    from vla_cli.render import plural, print_line, print_table

    cells: dict[str, Callable[[MetricResult], str]] = {
        "95 %": lambda f: f"{f.low:.1f} - {f.high:.1f}",
        "frozen": lambda f: _format(f.frozen),
        "gain, 95 %": lambda f: "" if f.gain is None else f"{f.gain[0]:+.1f} to {f.gain[1]:+.1f}",
        "floor": lambda f: (
            f"{_format(f.best_baseline[1])} {f.best_baseline[0]}"
            if f.best_baseline
            else f"({f.no_floor})"
        ),
        "blind": lambda f: _format(f.blind),
        **{name: _trick(name) for name in _tricks(report.figures)},
    }
    columns = {name: cell for name, cell in cells.items() if any(cell(f) for f in report.figures)}
    model = f"run {report.run}" if report.run else "frozen encoder"
    rows = [
        ("" if i else f.task, f.measure, f"{f.value:.1f}", *(cell(f) for cell in columns.values()))
        for results in report.by_task.values()
        for i, f in enumerate(results)
    ]
    numeric = [model, *(name for name in columns if name != "floor")]
    counts = report.counts
    title = (
        f"{plural(counts['captions'], 'caption')} and {plural(counts['questions'], 'question')} of "
        f"{plural(counts['videos'], 'video')}"
    ) + (f", split {report.split}" if report.split else "")
    print_table(("task", "measure", model, *columns), rows, numeric=numeric, title=title)
    for text in _legend(report, list(columns)):
        print_line(text)


def _legend(report: EvaluationReport, columns: list[str]) -> list[str]:
    from vla.evaluation.results import TRICKS
    from vla.evaluation.search_metrics import SEARCH_SUFFIX, describe_retriever

    lines = [
        "Values in percent, except MedR, MnR and MSE (lower is better). Intervals: bootstrap "
        "over videos, each with all its "
        "queries. Gain: paired by query."
    ]
    if any(f.no_floor and f.best_baseline for f in report.figures):
        lines += sorted(
            {f"floors: {f.no_floor}" for f in report.figures if f.no_floor and f.best_baseline}
        )
    if report.floors_from:
        lines.append(f"floors that need training annotations: {report.floors_from}")
    if report.compared:
        lines.append(f"{SEARCH_SUFFIX}: {describe_retriever(report.compared)}")
    return lines + [f"{name}: {TRICKS[name]}" for name in columns if name in TRICKS]


def _tricks(results: list[MetricResult]) -> list[str]:
    return list(dict.fromkeys(name for f in results for name in f.tricks))


def _trick(name: str) -> Callable[[MetricResult], str]:
    return lambda result: _format(result.tricks.get(name))


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
