"""`vla verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from vla_cli import options as o


def verify(
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Also read all files and compare their checksums.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Remove corrupt files, so that the next command recreates them."
        ),
    ] = False,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Check the workspace for missing or corrupt files: features, captions, runs and index.

    Exits with 4 if there are any. Nothing is written without --repair.

    Examples:
        vla verify
        vla verify --read-data --repair
    """
    from vla.workflows import verify
    from vla_cli.render import plural, print_json, print_line, print_table, progress_bars

    with progress_bars(quiet) as progress:
        corruptions = verify.verify(
            workspace=workspace, read_data=read_data, repair=repair, progress=progress
        )
    if as_json:
        print_json([{"name": c.name, "reason": c.reason} for c in corruptions])
    elif corruptions:
        print_table(
            ("damaged", "reason"), [(c.name, c.reason) for c in corruptions], names=("damaged",)
        )
        count = plural(len(corruptions), "file or record", "files or records")
        if repair:
            print_line(
                f"Removed {count}. Run `vla extract` (or `vla import-features`), `vla train` and "
                f"`vla index` again, as needed."
            )
        else:
            print_line(
                f"{count} missing or corrupt. `vla verify --repair` removes them; the next "
                f"command recreates them."
            )
    elif not quiet:
        print_line(
            "No damage found."
            if read_data
            else "All files are present. `vla verify --read-data` also compares checksums."
        )
    if corruptions:
        raise typer.Exit(4)
