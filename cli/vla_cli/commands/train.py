"""`vla train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla.training.config import TrainConfig, read_recipe
from vla_cli import options as o

if TYPE_CHECKING:
    from vla.training.checkpoint import Run

_DEFAULTS = TrainConfig()


def train(
    context: typer.Context,
    captions: o.Captions = None,
    levels: Annotated[
        str, typer.Option(help="Alignment losses: both, global, segment or none.", metavar="NAME")
    ] = _DEFAULTS.levels,
    score: Annotated[
        str,
        typer.Option(
            help="Video-caption score of the global loss: mean (mean frame) or tokens (late "
            "interaction with frames).",
            metavar="NAME",
        ),
    ] = _DEFAULTS.score,
    heads: Annotated[
        str,
        typer.Option(
            help="Heads to train, separated by commas; auto trains one for each kind of question "
            "in the captions.",
            metavar="NAMES",
        ),
    ] = _DEFAULTS.heads,
    projector: Annotated[
        str, typer.Option(help="Projector plug-in.", metavar="NAME")
    ] = _DEFAULTS.projector,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of epochs; by default as many as show 20,000 videos, from 10 to 80.",
            metavar="N",
            show_default=False,
        ),
    ] = _DEFAULTS.epochs,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Videos per step.", metavar="N")
    ] = _DEFAULTS.batch_size,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", "--lr", help="Peak learning rate.", metavar="RATE")
    ] = _DEFAULTS.learning_rate,
    val_fraction: Annotated[
        float,
        typer.Option(
            help="Fraction of videos used for validation if the captions have no split for it.",
            metavar="SHARE",
        ),
    ] = _DEFAULTS.val_fraction,
    select: Annotated[
        str,
        typer.Option(
            help="Measure of `vla eval` that selects the weights, e.g. 'moment by head mAP'; auto: "
            "the scores of the heads, or without heads those of search.",
            metavar="MEASURE",
        ),
    ] = _DEFAULTS.select,
    validate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Epochs between validations; by default so many that validation takes about a "
            "fifth of the time.",
            metavar="N",
            show_default=False,
        ),
    ] = _DEFAULTS.validate_every,
    seed: Annotated[int, typer.Option(help="Random seed.", metavar="N")] = _DEFAULTS.seed,
    precision: Annotated[
        str,
        typer.Option(
            help="Training precision: fp32, bf16 or auto (bf16 if the hardware supports it).",
            metavar="DTYPE",
        ),
    ] = _DEFAULTS.precision,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Make training on a GPU reproducible to the bit, but slower. On a CPU it always "
            "is.",
        ),
    ] = _DEFAULTS.deterministic,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of settings; options override it.", metavar="FILE", show_default=False
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run.", metavar="NAME")] = "default",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train again even if the run is finished.")
    ] = False,
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
    """Train small projectors on cached features and captions.

    If training is interrupted, run the same command again: it continues at the
    same step and produces the same weights. Ctrl-C and SIGTERM finish the step
    and save the state.

    For several processes: torchrun --nproc_per_node=2 -m vla_cli train

    Examples:
        vla train
        vla train --captions captions.csv --name mine
        vla train --epochs 20 --batch-size 64
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    options = {
        "levels": levels, "score": score, "heads": heads,
        "projector": projector, "epochs": epochs, "batch_size": batch_size,
        "learning_rate": learning_rate, "val_fraction": val_fraction, "select": select,
        "validate_every": validate_every, "seed": seed,
        "precision": precision, "deterministic": deterministic,
    }  # fmt: skip
    # Options that are not set are left to the recipe, and then to the defaults of the library.
    settings: dict[str, Any] = {k: v for k, v in options.items() if _is_set(context, k)}
    if recipe is not None:
        # A recipe is more specific than vla.toml.
        in_recipe = read_recipe(recipe)
        settings = {
            k: v
            for k, v in settings.items()
            if k not in in_recipe or not _is_set(context, k, "DEFAULT_MAP")
        }
    # torchrun sets the number of the process. The library reads it with torch, which loads slowly.
    is_main_process = os.environ.get("RANK", "0") == "0"
    with progress_bars(quiet or not is_main_process) as progress:
        run = vla.train(
            captions=o.single_file(captions), workspace=workspace, settings=settings, recipe=recipe, name=name,
            overwrite=overwrite, device=device,
            columns=o.columns(video_column, caption_column, start_column, end_column, split_column),
            format=format, progress=progress,
        )  # fmt: skip
    if not is_main_process:
        return
    if as_json:
        omissions = run.omissions.to_json()
        print_json(
            {
                "name": run.name,
                "digest": run.digest,
                "spec": run.spec.to_json(),
                "omissions": omissions,
                **run.record,
            }
        )
    else:
        _print_report(run)
        from vla_cli.next_step import has_index, print_next

        if not quiet and (run.is_better or not has_index(workspace)):
            print_next("index", workspace)


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _is_set(context: typer.Context, option: str, by: str = "") -> bool:
    """Return whether an option has no built-in default, or its source is `by`."""
    source = context.get_parameter_source(option)
    return source is not None and (source.name == by if by else source.name != "DEFAULT")


def _print_report(run: Run) -> None:
    """Print the metrics of validated epochs, those before and after training, and the verdicts."""
    from vla_cli.render import plural, print_line, print_table

    record = run.record
    history = record["history"]
    losses = list(history[-1]["losses"]) if history else []
    metrics = {
        "text to video": "R@1", "text to video reranked": "R@1",
        "moment to video": "R@1", "moment in its video": "R1@0.5", "moment by head": "R1@0.5",
        "multiple choice": "accuracy", "open answers": "accuracy", "counting": "MSE",
    }  # fmt: skip
    tasks = [t for t in metrics if history and t in history[-1]["metrics"]]
    columns = ["epoch", *losses, "score", *(f"{t} {metrics[t]}" for t in tasks)]
    rows = [
        [h["epoch"], *(f"{h['losses'].get(n, 0):.3f}" for n in losses), f"{h['score']:.3f}",
         *(f"{h['metrics'][t][metrics[t]]:.1f}" for t in tasks)]
        for h in history
    ]  # fmt: skip
    print_table(columns, rows, numeric=columns)
    sources = {
        "frozen": record["before"]["metrics"], "trained": record["after"]["metrics"],
        "blind": record["after"].get("blind", {}), "floor": record.get("floors", {}),
    }  # fmt: skip
    names = [name for name, values in sources.items() if any(values.values())]
    rows = [
        [task, measure, *(_format(sources[name].get(task, {}).get(measure)) for name in names)]
        for task, measures in sources["trained"].items()
        for measure in measures
    ]
    videos = {"searched": record["videos"]["held out"], **record["videos"]}
    title = f"{plural(videos['held out'], 'held-out video')}, searched among {videos['searched']} (trained on {videos['train']})"
    print_table(("task", "measure", *names), rows, numeric=names, title=title)
    if run.is_better:
        effect = "`vla index` will use it"
    else:
        effect = f"`vla index` keeps the frozen encoder; use `--run {run.name}` to override"
    settings = f"alpha {record['alpha']:g}, centering {record.get('centring', 0.0):g}"
    if record.get("selected_epoch", record["epochs"]) != record["epochs"]:
        settings += f", weights of epoch {record['selected_epoch']}"
    print_line(f"Run {run.name!r}: {run.verdict} ({settings}). {effect}.")
    for task, verdict in run.head_verdicts.items():
        print_line(f"{task[0].upper()}{task[1:]}: {verdict}.")
