"""`vla eval`."""

from __future__ import annotations

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
        str, typer.Option(help="Split to measure on; held-out: what the run was not trained on; all without.")
    ] = "",
    run: Annotated[
        str | None,
        typer.Option(
            help="Trained run; 'none' for the frozen encoder (default: what 'vla index' would use).", show_default=False
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--tasks", "-t", help=f"Only these: {_TASKS}; several with commas.", show_default=False),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(help="Folder to write the files to that official evaluators read.", show_default=False),
    ] = None,
    search: Annotated[
        bool,
        typer.Option("--search/--no-search", help="Also measure what 'vla search' lists; without, it is quicker."),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
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
    """Measure a run by the official protocols: each figure with its interval, its floor and the frozen encoder beside it."""
    import vla
    from vla_cli.render import print_json, progress_bars

    wanted = [name.strip() for given in tasks or () for name in given.split(",") if name.strip()]
    with progress_bars(quiet) as progress:
        found = vla.evaluate(
            captions=o.one(captions), split=split, run=run,
            tasks=wanted, submission=submission, search=search, seed=seed, device=device,
            columns=o.columns(video_column, caption_column, start_column, end_column, split_column), format=format,
            workspace=workspace, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(found.to_json())
    else:
        _tables(found)


def _tables(found: EvaluationReport) -> None:
    """A table for all tasks, then what has to be read with it."""
    from vla_cli.render import line, plural, print_table

    columns: dict[str, Callable[[MetricResult], str]] = {
        "95 %": lambda f: f"{f.low:.1f} - {f.high:.1f}",
        "frozen": lambda f: _number(f.frozen),
        "gain, 95 %": lambda f: "" if f.gain is None else f"{f.gain[0]:+.1f} to {f.gain[1]:+.1f}",
        "floor": lambda f: (
            f"{_number(f.best_baseline[1])} {f.best_baseline[0]}" if f.best_baseline else f"({f.no_floor})"
        ),
        "blind": lambda f: _number(f.blind),
        **{name: _trick(name) for name in _tricks(found.figures)},
    }
    used = {name: cell for name, cell in columns.items() if any(cell(f) for f in found.figures)}
    model = f"run {found.run}" if found.run else "frozen encoder"
    rows = [
        (f.task if first else "", f.measure, f"{f.value:.1f}", *(cell(f) for cell in used.values()))
        for figures in found.by_task.values()
        for first, f in ((i == 0, f) for i, f in enumerate(figures))
    ]
    numeric = [model, *(name for name in used if name != "floor")]
    counts = found.counts
    title = (
        f"{plural(counts['captions'], 'caption')} and {plural(counts['questions'], 'question')} of "
        f"{plural(counts['videos'], 'video')}"
    ) + (f", split {found.split}" if found.split else "")
    print_table(("task", "measure", model, *used), rows, numeric=numeric, title=title)
    for text in _legend(found, list(used)):
        line(text)


def _legend(found: EvaluationReport, columns: list[str]) -> list[str]:
    from vla.evaluation.results import TRICKS
    from vla.evaluation.search_metrics import SEARCH_SUFFIX, describe_retriever

    lines = [
        "percent but for MedR, MnR and MSE, where less is better; intervals: bootstrap over videos with all their queries; "
        "gain: each query compared with itself"
    ]
    if any(f.no_floor and f.best_baseline for f in found.figures):
        lines += sorted({f"floors: {f.no_floor}" for f in found.figures if f.no_floor and f.best_baseline})
    if found.floors_from:
        lines.append(f"floors that need training annotations: {found.floors_from}")
    if found.compared:
        lines.append(f"{SEARCH_SUFFIX}: {describe_retriever(found.compared)}")
    return lines + [f"{name}: {TRICKS[name]}" for name in columns if name in TRICKS]


def _tricks(figures: list[MetricResult]) -> list[str]:
    return list(dict.fromkeys(name for f in figures for name in f.tricks))


def _trick(name: str) -> Callable[[MetricResult], str]:
    return lambda figure: _number(figure.tricks.get(name))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
