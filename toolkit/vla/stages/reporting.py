"""`report`: a page about a run, for people: what was trained on what, how it went, and how it was measured since."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vla import __version__, durable
from vla.errors import CacheError
from vla.evaluate.figures import LOWER, TRICKS, Figure
from vla.evaluate.kept import Evaluated, kept
from vla.evaluate.listed import BY_SEARCH, searched
from vla.stages.curves import curve, standing
from vla.stages.page import facts, folded, page, safe, table
from vla.stages.training import DEFAULT_RUN
from vla.train.checkpoint import Run, open_run
from vla.train.config import TrainConfig
from vla.workspace import Workspace

_CURVES = ("R@1", "R1@0.5", "accuracy", "MSE")
"""The one measure of each task that is drawn: the first of these that it has."""
_NOT_PERCENT = (*LOWER, "SumR")


def report(run: str = DEFAULT_RUN, *, output: Path | None = None, workspace: Path | None = None) -> Path:
    """Where the page about a run was written: one HTML file, with its curves in it, that needs nothing else.

    Args:
        run: its name.
        output: the file; `RUN.html` in the current folder when None. A file that is there is replaced.
        workspace: as for `train`.

    Raises:
        MissingError: there is no such run.
        CacheError: the run, or an evaluation of it, is damaged.
        ResourceError: the page could not be written.
    """
    text = page_of(run, workspace=workspace)
    path = Path(f"{run}.html") if output is None else Path(output)
    durable.write_bytes(path, text.encode("utf-8"))
    return path


def page_of(run: str = DEFAULT_RUN, *, workspace: Path | None = None) -> str:
    """The page that `report` writes, as HTML."""
    folder = Workspace.open(workspace).run(run)
    return written(open_run(folder), kept(folder))


def written(run: Run, evaluations: Sequence[Evaluated]) -> str:
    """The page as HTML; raises CacheError if the record of the run lacks what every run has."""
    try:
        body = [*_head(run), *_course(run), *_comparison(run)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CacheError(
            f"the record of run {run.name!r} is damaged ({error!r}): train again with --overwrite"
        ) from error
    body += ["<h2>Measured since</h2>"]
    for evaluated in evaluations:
        body += _evaluation(run, evaluated)
    if not evaluations:
        body.append(
            '<p class="soft">Nothing yet: <code>vla eval</code> measures a run, and what it finds is shown here.</p>'
        )
    body.append(f'<p class="soft">Written by vla {safe(__version__)}.</p>')
    return page(f"Run {run.name}", body)


def _head(run: Run) -> list[str]:
    record, spec = run.record, run.spec
    videos = record["videos"]
    searched = videos.get("searched", videos["held out"])
    uses = f"search uses it, with the dial at {record['alpha']:g}" if run.is_better else "search does not use it"
    verdict = f"Verdict: {run.verdict}. By default {uses}."
    told = [
        ("trained on", f"{videos['train']} videos"),
        ("judged by", f"{videos['held out']} videos that were held out, searched for among {searched}"),
        ("features", f"{spec.model}, {spec.dim} wide, {spec.sampling}"),
        ("projector", run.model.projector),
        ("heads", ", ".join(run.model.heads) or "none"),
        ("epochs", record["epochs"]),
        ("alpha", f"{record['alpha']:g}: how far the projector goes from frozen (0) to as it was trained (1)"),
        *_guard(record),
        ("weights", run.digest),
    ]  # fmt: skip
    default = TrainConfig()
    usual = {f.name: getattr(default, f.name) for f in fields(default)}
    changed = [(k, v) for k, v in record["config"].items() if usual.get(k) != v]
    return [
        f"<h1>Run {safe(run.name)}</h1>",
        f'<p class="verdict">{safe(verdict)}</p>',
        facts([*told, ("not as usual", ", ".join(f"{k} {v}" for k, v in changed) or "nothing: all settings are the defaults")]),
        folded("All settings", facts(list(record["config"].items()))),
    ]  # fmt: skip


def _guard(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What became of all that the captions do not mention, where a run was judged by that, too."""
    found = []
    if "centring" in record:
        found.append(("centring", f"{record['centring']:g}: so much of what all features share is taken away"))
    if any(record.get("untaught", {}).values()):
        before, after = (record["untaught"][when] for when in ("before", "after"))
        found.append(("content withheld", f"found with a score of {before:.3f} before training, {after:.3f} after"))
    return found


def _course(run: Run) -> list[str]:
    """Curves by epoch."""
    history, before = run.record["history"], run.record["before"]
    if not history:
        return []
    names = dict.fromkeys(name for row in history for name in row["losses"])
    nan = float("nan")
    losses = [curve(f"loss: {name}", [float(row["losses"].get(name, nan)) for row in history]) for name in names]
    scores = [curve("score", [float(row["score"]) for row in history], float(before["score"]))]
    for task, measures in history[-1]["metrics"].items():
        measure = next((m for m in _CURVES if m in measures), None)
        if measure is not None:
            values = [float(row["metrics"].get(task, {}).get(measure, nan)) for row in history]
            frozen = before["metrics"].get(task, {}).get(measure)
            scores.append(curve(f"{task}, {measure}", values, None if frozen is None else float(frozen)))
    return [
        "<h2>How training went</h2>",
        '<p class="soft">By epoch. A dashed line is the frozen encoder, which training starts from. The scores are of the videos '
        "that were held out, with the dial halfway between frozen and trained.</p>",
        f'<div class="charts">{"".join(scores)}</div>',
        f'<div class="charts">{"".join(losses)}</div>',
        folded("The numbers", _numbers(history, list(names))),
    ]


def _numbers(history: Sequence[Mapping[str, Any]], names: list[str]) -> str:
    columns = ["epoch", "score", *names]
    rows = [
        [
            safe(row["epoch"]),
            f"{row['score']:.4f}",
            *(f"{row['losses'][n]:.4f}" if n in row["losses"] else "" for n in names),
        ]
        for row in history
    ]
    return table(columns, rows, "Score and losses by epoch", columns)


def _comparison(run: Run) -> list[str]:
    """Before and after, on the videos that were held out, by task."""
    before, after, floors = run.record["before"], run.record["after"], run.record.get("floors", {})
    tables = []
    for task, measures in after["metrics"].items():
        columns: dict[str, Mapping[str, float]] = {"trained": measures, "frozen": before["metrics"].get(task, {})}
        columns |= {"blind": after.get("blind", {}).get(task, {}), "floor": floors.get(task, {})}
        shown = [name for name, of in columns.items() if of]
        rows = []
        for measure in sorted(measures, key=_place):
            trained, *others = (columns[name].get(measure) for name in shown)
            gain = _gain(measure, measures[measure], columns["frozen"].get(measure))
            rows.append([safe(measure), _figure(trained), gain, *map(_figure, others)])
        tables.append(table(["measure", shown[0], "gain", *shown[1:]], rows, task, [*shown, "gain"]))
    return [
        "<h2>On the videos that were held out</h2>",
        f'<div class="tables">{"".join(tables)}</div>',
        '<p class="soft">These videos were chosen by, so the figures flatter a little. <b>blind</b>: a twin that learned from '
        "the words alone. <b>floor</b>: what not looking scores.</p>",
    ]


def _place(measure: str) -> tuple[bool, list[str | int]]:
    """Sorts R@5 before R@10, and what is no percentage to the end."""
    parts = re.split(r"(\d+)", measure)
    return measure in _NOT_PERCENT, [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _evaluation(run: Run, found: Evaluated) -> list[str]:
    counts = found.counts
    where = Path(found.captions).name if found.captions else "the workspace's captions"
    title = f"{where}, split {found.split}" if found.split else where
    told = f"{counts.get('captions', 0)} captions and {counts.get('questions', 0)} questions of {counts.get('videos', 0)} videos"
    notes = list(found.notes)
    if found.digest != run.digest:
        notes.insert(0, "This was measured before the run was trained anew: the figures are of other weights.")
    if found.floors_from:
        notes.append(f"Floors that need training annotations: {found.floors_from}.")
    if found.compared:
        notes.append(f"{BY_SEARCH}: {searched(found.compared)}.".capitalize())
    notes += sorted({f"Floors: {f.no_floor}." for f in found.figures if f.no_floor and f.floor})
    body = [f"<h3>{safe(title)}</h3>", f"<p>{safe(told)}.</p>", *(f"<p>{safe(note)}</p>" for note in notes), _KEY]
    body += [_task(task, figures) for task, figures in found.by_task.items()]
    tricks = dict.fromkeys(name for f in found.figures for name in f.tricks)
    return body + [f'<p class="soft"><b>{safe(name)}</b>: {safe(TRICKS.get(name, ""))}.</p>' for name in tricks]


_KEY = (
    '<p class="soft">Percent but for MedR, MnR and MSE, where less is better. Between 0 and 100: the dot is the figure, the '
    "band its 95 % bootstrap interval (over videos with all their queries), the ring the frozen encoder, the upright bar "
    "the floor. <b>gain</b>: the interval of the difference to the frozen encoder, each query compared with itself.</p>"
)


def _task(task: str, figures: Sequence[Figure]) -> str:
    tricks = list(dict.fromkeys(name for f in figures for name in f.tricks))
    has_blind = any(f.blind is not None for f in figures)
    has_gain = any(f.gain for f in figures)
    beside = ["frozen", *["gain, 95 %"] * has_gain, "floor", *["blind"] * has_blind, *tricks]
    rows = []
    for f in figures:
        floor = f.floor
        is_share = f.measure not in _NOT_PERCENT
        picture = standing(f.value, f.low, f.high, f.frozen, floor[1] if floor else None) if is_share else ""
        least = f"{floor[1]:.1f} {safe(floor[0])}" if floor else f'<span class="reason">{safe(f.no_floor)}</span>'
        cells = [safe(f.measure), f"<b>{f.value:.1f}</b>", f"{f.low:.1f} – {f.high:.1f}", _figure(f.frozen)]
        cells += [*[_interval(f)] * has_gain, least]
        rows.append(
            [*cells, *[_figure(f.blind)] * has_blind, *(_figure(f.tricks.get(name)) for name in tricks), picture]
        )
    columns = ["measure", "figure", "95 %", *beside, "0 to 100"]
    return table(columns, rows, task, [c for c in columns if c not in ("measure", "0 to 100", "floor")])


def _gain(measure: str, trained: float, frozen: float | None) -> str:
    if frozen is None:
        return ""
    gain = trained - frozen
    better = gain < 0 if measure in LOWER else gain > 0
    kind = "" if abs(gain) < 0.05 else ' class="up"' if better else ' class="down"'
    return f"<span{kind}>{gain:+.1f}</span>" if kind else "0.0"


def _interval(figure: Figure) -> str:
    """Of the gain; marked where it does not hold 0."""
    if figure.gain is None:
        return ""
    kind = {1: ' class="up"', -1: ' class="down"', 0: ""}[figure.gained]
    return f"<span{kind}>{figure.gain[0]:+.1f} to {figure.gain[1]:+.1f}</span>"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
