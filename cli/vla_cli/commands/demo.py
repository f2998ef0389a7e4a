"""`vla demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.workflows.demo import DemoReport


def demo(
    folder: Annotated[Path, typer.Argument(help="Output folder.", metavar="FOLDER")] = Path(
        "vla-demo"
    ),
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
    """Render clips of moving shapes and run extract, train, index and search on them, offline.

    Examples:
        vla demo
        vla demo my-demo --clips 60
    """
    import vla
    from vla_cli.render import print_json, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.demo(folder, clips=clips, seed=seed, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)


def _print_report(report: DemoReport) -> None:
    """Print metrics against the ground truth, example searches, the verdict and the folder."""
    from vla_cli.render import format_time, plural, print_line, print_table

    rows = []
    for task, metrics in report.after.items():
        for metric, value in metrics.items():
            # The frozen encoder has no head.
            before = report.before.get(task, {}).get(metric)
            rows.append((task, metric, "" if before is None else f"{before:.1f}", f"{value:.1f}"))
    title = f"{plural(report.clips['test'], 'test clip')}, most in pairs that no single frame can tell apart"
    print_table(
        ("task", "measure", "frozen", "trained"), rows, title=title, numeric=("frozen", "trained")
    )
    searches = [
        (e.query, f"{Path(e.truth[0]).name} {format_time(e.truth[1])} - {format_time(e.truth[2])}",
         f"{Path(e.found[0]).name} {format_time(e.found[1])} - "
         f"{format_time(e.found[2])}", e.right, e.rank or "above 10")
        for e in report.examples
    ]  # fmt: skip
    print_table(
        ("search", "written for", "first hit", "correct moments", "rank of the first correct hit"),
        searches,
        names=(),
    )
    clips = plural(report.clips["train"], "clip")
    print_line(f"Trained on {clips}: {report.verdict}; alpha {report.alpha:g}.")
    print_line("  ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items()))
    print_line(
        f'Output: {report.folder}. Next: vla search -w {report.folder} "a red circle moves left"'
    )
