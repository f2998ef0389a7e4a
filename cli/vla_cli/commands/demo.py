"""`vla demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.workflows.demo import DemoReport


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("vla-demo"),
    clips: Annotated[
        int, typer.Option(min=12, max=100_000, help="Clips to render; a quarter of them is held back for tests.")
    ] = 320,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Which world.")] = 0,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Render a small world of moving shapes and run extract, train, index and search over it, offline."""
    import vla
    from vla_cli.render import print_json, progress_bars

    with progress_bars(quiet) as progress:
        report = vla.demo(folder, clips=clips, seed=seed, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)


def _show(report: DemoReport) -> None:
    """Metrics against the known truth, searches with their answers, and where everything lies."""
    from vla_cli.render import clock, line, plural, print_table

    rows = []
    for task, measures in report.after.items():
        for measure, value in measures.items():
            # The frozen encoder has no head.
            before = report.before.get(task, {}).get(measure)
            rows.append((task, measure, "" if before is None else f"{before:.1f}", f"{value:.1f}"))
    title = f"{plural(report.clips['test'], 'test clip')}, never trained on, most of them twins that no single frame tells apart"
    print_table(("task", "measure", "frozen", "trained"), rows, title=title, numeric=("frozen", "trained"))
    searches = [
        (e.query, f"{Path(e.truth[0]).name} {clock(e.truth[1])} - {clock(e.truth[2])}",
         f"{Path(e.found[0]).name} {clock(e.found[1])} - {clock(e.found[2])}", e.right, e.rank or "not in ten")
        for e in report.examples
    ]  # fmt: skip
    print_table(
        ("search", "written for", "found first", "right moments", "rank of the first right one"), searches, names=()
    )
    line(f"trained on {plural(report.clips['train'], 'clip')}; {report.verdict} (alpha {report.alpha:g})")
    line("  ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items()))
    line(f'everything lies in {report.folder}; go on with: vla search -w {report.folder} "a red circle moves left"')
