"""`vla train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla.training.config import TrainConfig
from vla_cli import options as o

if TYPE_CHECKING:
    from vla.training.checkpoint import Run

_DEFAULTS = TrainConfig()


def train(
    context: typer.Context,
    captions: o.Captions = None,
    levels: Annotated[str, typer.Option(help="Alignment losses: both, global, segment or none.")] = _DEFAULTS.levels,
    score: Annotated[
        str,
        typer.Option(help="How the global level compares caption and video: mean (frame), or tokens (with frames)."),
    ] = _DEFAULTS.score,
    heads: Annotated[
        str, typer.Option(help="Heads to train too, with commas between; auto: one for each kind of question.")
    ] = _DEFAULTS.heads,
    projector: Annotated[str, typer.Option(help="Projector plug-in.")] = _DEFAULTS.projector,
    epochs: Annotated[int, typer.Option(min=1)] = _DEFAULTS.epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="Videos in a step.")] = _DEFAULTS.batch_size,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr")] = _DEFAULTS.learning_rate,
    val_fraction: Annotated[
        float, typer.Option(help="Fraction of videos used for validation where the captions name no split.")
    ] = _DEFAULTS.val_fraction,
    patience: Annotated[
        int, typer.Option(min=1, help="Epochs without improvement before stopping.")
    ] = _DEFAULTS.patience,
    seed: Annotated[int, typer.Option()] = _DEFAULTS.seed,
    precision: Annotated[
        str,
        typer.Option(help="Training precision: fp32, bf16, or auto (bf16 where the processor has hardware for it)."),
    ] = _DEFAULTS.precision,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="The same bits on a GPU, too, at some cost; on a CPU they always are."),
    ] = _DEFAULTS.deterministic,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file of settings; options given here win.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "default",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train anew even if this run is finished.")] = False,
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
    """Train small projectors on cached features and captions. A run that was stopped goes on at its step, to the same result.

    Ctrl-C or SIGTERM finishes the step and keeps the state (exit code 130 or 143). Several processes share every step:
    torchrun --nproc_per_node=2 -m vla_cli train
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    options = {
        "levels": levels, "score": score, "heads": heads,
        "projector": projector, "epochs": epochs, "batch_size": batch_size,
        "learning_rate": learning_rate, "val_fraction": val_fraction, "patience": patience, "seed": seed,
        "precision": precision, "deterministic": deterministic,
    }  # fmt: skip
    # What was not given is left to the recipe, and without one to the library's own defaults.
    settings: dict[str, Any] = {k: v for k, v in options.items() if _was_given(context, k)}
    # torchrun's number of this process; the library asks for it when torch is loaded, and that takes a while.
    speaks = os.environ.get("RANK", "0") == "0"
    with progress_bars(quiet or not speaks) as progress:
        run = vla.train(
            captions=o.one(captions), workspace=workspace, settings=settings, recipe=recipe, name=name, overwrite=overwrite,
            device=device, columns=o.columns(video_column, caption_column, start_column, end_column, split_column),
            format=format, progress=progress,
        )  # fmt: skip
    if not speaks:
        return
    if as_json:
        omissions = run.omissions.to_json()
        print_json(
            {"name": run.name, "digest": run.digest, "spec": run.spec.to_json(), "omissions": omissions, **run.record}
        )
    else:
        _tables(run)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _was_given(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name != "DEFAULT"


def _tables(run: Run) -> None:
    """Metrics epoch by epoch, then before and after."""
    from vla_cli.render import line, print_table

    history = run.record["history"]
    losses = list(history[-1]["losses"]) if history else []
    tasks = {
        "text to video": "R@1", "text to video reranked": "R@1",
        "moment to video": "R@1", "moment in its video": "R1@0.5", "moment by head": "R1@0.5",
        "multiple choice": "accuracy", "open answers": "accuracy", "counting": "MSE",
    }  # fmt: skip
    shown_tasks = [t for t in tasks if history and t in history[-1]["metrics"]]
    columns = ["epoch", *losses, "score", *(f"{t} {tasks[t]}" for t in shown_tasks)]
    rows = [
        [h["epoch"], *(f"{h['losses'].get(n, 0):.3f}" for n in losses), f"{h['score']:.3f}",
         *(f"{h['metrics'][t][tasks[t]]:.1f}" for t in shown_tasks)]
        for h in history
    ]  # fmt: skip
    print_table(columns, rows, numeric=columns)
    record = run.record
    sources = {
        "frozen": record["before"]["metrics"], "trained": record["after"]["metrics"],
        "blind": record["after"].get("blind", {}), "floor": record.get("floors", {}),
    }  # fmt: skip
    shown = [name for name, found in sources.items() if any(found.values())]
    compared = [
        (task, measure, *(_figure(sources[name].get(task, {}).get(measure)) for name in shown))
        for task, measures in sources["trained"].items()
        for measure in measures
    ]
    videos = {"searched": run.record["videos"]["held out"], **run.record["videos"]}
    title = f"{videos['held out']} held-out videos, searched among {videos['searched']} (trained on {videos['train']})"
    print_table(("task", "measure", *shown), compared, numeric=shown, title=title)
    used = (
        "'vla index' will use it"
        if run.is_better
        else f"'vla index' keeps the frozen encoder; use --run {run.name} to override"
    )
    dials = f"alpha {run.record['alpha']:g}, centering {run.record.get('centring', 0.0):g}"
    line(f"run {run.name!r}: {run.verdict} ({dials}); {used}")
