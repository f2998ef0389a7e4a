"""`report`: write a page about a run with its settings, its training curves and its evaluations."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla import __version__
from vla.errors import CacheError
from vla.evaluation.report_file import EvaluationReport, load
from vla.evaluation.results import LOWER, TRICKS, MetricResult
from vla.evaluation.search_metrics import SEARCH_SUFFIX, describe_retriever
from vla.hints import Hint
from vla.language.plurals import plural
from vla.reports.html import render
from vla.reports.run_summary import run_summary
from vla.reports.svg import Chart, interval_chart, line_chart
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.training.checkpoint import Run, open_run
from vla.workflows.train import DEFAULT_RUN

_CURVES = ("R@1", "R1@0.5", "accuracy", "MSE")
"""Measures with a chart, in order of preference: a task has a chart of the first one it has."""
_NOT_PERCENT = (*LOWER, "SumR")


def report(
    run: str = DEFAULT_RUN, *, output: Path | None = None, workspace: Path | None = None
) -> Path:
    """Write a report about a run as a self-contained HTML file, and return its path.

    Args:
        run: its name.
        output: the file; `RUN.html` in the current folder when None. A file that is there is
            replaced.
        workspace: as for `train`.

    Raises:
        MissingError: there is no such run.
        CacheError: the run, or an evaluation of it, is damaged.
        ResourceError: the page could not be written.
    """
    text = page_of(run, workspace=workspace)
    path = Path(f"{run}.html") if output is None else Path(output)
    atomic.write_bytes(path, text.encode("utf-8"))
    return path


def page_of(run: str = DEFAULT_RUN, *, workspace: Path | None = None) -> str:
    """Return the page that `report` writes, as HTML."""
    folder = Workspace.open(workspace).run(run)
    return render_html(open_run(folder), load(folder))


def render_html(run: Run, evaluations: Sequence[EvaluationReport]) -> str:
    """Return the page as HTML.

    Raises:
        CacheError: the record of the run lacks what every run has.
    """
    try:
        sections = {**run_summary(run), "course": _course(run), "comparison": _comparison(run)}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CacheError(
            f"the record of run {run.name!r} is damaged ({error!r})",
            hint=Hint("retrain", run=run.name),
        ) from error
    reports = [_evaluation(run, evaluation) for evaluation in evaluations]
    return render(
        "run.html.j2", name=run.name, **sections, evaluations=reports, version=__version__
    )


@dataclass(frozen=True)
class Cell:
    """A text in a table.

    Attributes:
        text: of the cell.
        style: `b` for bold, `up` or `down` for a gain or loss, `reason` for a sentence; empty for
            none.
    """

    text: str
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column is the header of its rows.

    Attributes:
        caption: text above it.
        columns: their names.
        numeric: names of those that are aligned to the right.
        rows: of as many cells as there are columns: texts, `Cell`s, or charts.
    """

    caption: str
    columns: Sequence[str]
    numeric: Collection[str]
    rows: Sequence[Sequence[str | Cell]]


def _course(run: Run) -> dict[str, Any] | None:
    """Charts and numbers by validated epoch; None if nothing was trained."""
    history, before = run.record["history"], run.record["before"]
    if not history:
        return None
    names = list(dict.fromkeys(name for row in history for name in row["losses"]))
    nan, epochs = float("nan"), [int(row["epoch"]) for row in history]
    losses = [
        line_chart(
            f"loss: {name}", epochs, [float(row["losses"].get(name, nan)) for row in history]
        )
        for name in names
    ]
    values = [float(row["score"]) for row in history]
    scores = [line_chart("score", epochs, values, float(before["score"]))]
    for task, measures in history[-1]["metrics"].items():
        measure = next((m for m in _CURVES if m in measures), None)
        if measure is not None:
            values = [float(row["metrics"].get(task, {}).get(measure, nan)) for row in history]
            frozen = before["metrics"].get(task, {}).get(measure)
            scores.append(
                line_chart(
                    f"{task}, {measure}", epochs, values, None if frozen is None else float(frozen)
                )
            )
    return {
        "charts": [_without_none(scores), _without_none(losses)],
        "numbers": _numbers(history, names),
    }


def _without_none(charts: Sequence[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _numbers(history: Sequence[Mapping[str, Any]], names: list[str]) -> Table:
    columns = ["epoch", "score", *names]
    rows = []
    for row in history:
        losses = [f"{row['losses'][name]:.4f}" if name in row["losses"] else "" for name in names]
        rows.append([str(row["epoch"]), f"{row['score']:.4f}", *losses])
    return Table("Score and losses by epoch", columns, columns, rows)


def _comparison(run: Run) -> list[Table]:
    """Compare before and after, on the videos that were held out, by task."""
    before, after, floors = run.record["before"], run.record["after"], run.record.get("floors", {})
    tables = []
    for task, measures in after["metrics"].items():
        columns: dict[str, Mapping[str, float]] = {
            "trained": measures,
            "frozen": before["metrics"].get(task, {}),
        }
        columns |= {"blind": after.get("blind", {}).get(task, {}), "floor": floors.get(task, {})}
        names = [name for name, values in columns.items() if values]
        rows = []
        for measure in sorted(measures, key=_measure_key):
            value, *others = (columns[name].get(measure) for name in names)
            gain = _gain(measure, measures[measure], columns["frozen"].get(measure))
            rows.append([measure, _format_value(value), gain, *map(_format_value, others)])
        tables.append(
            Table(task, ["measure", names[0], "gain", *names[1:]], [*names, "gain"], rows)
        )
    return tables


def _measure_key(measure: str) -> tuple[bool, list[str | int]]:
    """Sort R@5 before R@10, and measures that are no percentage to the end."""
    parts = re.split(r"(\d+)", measure)
    return measure in _NOT_PERCENT, [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _evaluation(run: Run, evaluation: EvaluationReport) -> dict[str, Any]:
    counts = evaluation.counts
    source = Path(evaluation.captions).name if evaluation.captions else "the workspace's captions"
    title = f"{source}, split {evaluation.split}" if evaluation.split else source
    captions, questions, videos = (
        counts.get(name, 0) for name in ("captions", "questions", "videos")
    )
    summary = f"{plural(captions, 'caption')} and {plural(questions, 'question')} of {plural(videos, 'video')}"
    notes = list(evaluation.notes)
    if evaluation.digest != run.digest:
        notes.insert(
            0, "Measured before the run was trained again: the results are of other weights."
        )
    if evaluation.floors_from:
        notes.append(f"Baselines that need training annotations: {evaluation.floors_from}.")
    if evaluation.compared:
        notes.append(f"{SEARCH_SUFFIX}: {describe_retriever(evaluation.compared)}.".capitalize())
    notes += sorted(
        {f"Baselines: {f.no_floor}." for f in evaluation.figures if f.no_floor and f.best_baseline}
    )
    tricks = dict.fromkeys(name for f in evaluation.figures for name in f.tricks)
    return {
        "title": title,
        "notes": [f"{summary}.", *notes],
        "tables": [_task(task, figures) for task, figures in evaluation.by_task.items()],
        "tricks": {name: TRICKS.get(name, "") for name in tricks},
    }


def _task(task: str, figures: Sequence[MetricResult]) -> Table:
    tricks = list(dict.fromkeys(name for f in figures for name in f.tricks))
    gain = ["gain, 95 %"] if any(f.gain for f in figures) else []
    blind = ["blind"] if any(f.blind is not None for f in figures) else []
    columns = ["measure", "figure", "95 %", "frozen", *gain, "floor", *blind, *tricks, "0 to 100"]
    rows = []
    for f in figures:
        floor = f.best_baseline
        is_share = f.measure not in _NOT_PERCENT
        chart = (
            interval_chart(f.value, f.low, f.high, f.frozen, floor[1] if floor else None)
            if is_share
            else ""
        )
        cells: list[str | Cell] = [
            f.measure,
            Cell(f"{f.value:.1f}", "b"),
            f"{f.low:.1f} – {f.high:.1f}",
            _format_value(f.frozen),
        ]
        cells += [_interval(f) for _ in gain]
        cells.append(f"{floor[1]:.1f} {floor[0]}" if floor else Cell(f.no_floor, "reason"))
        cells += [_format_value(f.blind) for _ in blind] + [
            _format_value(f.tricks.get(name)) for name in tricks
        ]
        rows.append([*cells, chart])
    return Table(
        task, columns, [c for c in columns if c not in ("measure", "0 to 100", "floor")], rows
    )


def _gain(measure: str, value: float, frozen: float | None) -> str | Cell:
    if frozen is None:
        return ""
    gain = value - frozen
    if abs(gain) < 0.05:
        return "0.0"
    better = gain < 0 if measure in LOWER else gain > 0
    return Cell(f"{gain:+.1f}", "up" if better else "down")


def _interval(figure: MetricResult) -> str | Cell:
    """Format the interval of the gain, marked if it does not contain 0."""
    if figure.gain is None:
        return ""
    return Cell(
        f"{figure.gain[0]:+.1f} to {figure.gain[1]:+.1f}",
        {1: "up", -1: "down", 0: ""}[figure.gain_sign],
    )


def _format_value(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
