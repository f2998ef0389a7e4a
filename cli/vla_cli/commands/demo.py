"""`vla demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_cli import options as o


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("vla-demo"),
    clips: Annotated[int, typer.Option(min=12, help="Clips to render and train on.")] = 96,
    seed: Annotated[int, typer.Option(help="Which world.")] = 0,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Render a small world of moving shapes and run extract, train, index and search over it, offline."""
    from vla import api
    from vla_cli.render import print_json, progress_bars

    with progress_bars(quiet) as progress:
        report = api.demo(folder, clips=clips, seed=seed, progress=progress)
    if as_json:
        print_json(report.to_json())
