"""`vla doctor`."""

from __future__ import annotations

import sys

import typer

from vla_cli import options as o


def doctor(device: o.Device = "auto", as_json: o.Json = False, quiet: o.Quiet = False) -> None:
    """Test decoding, file access, indexing and encoding on this machine.

    Downloads nothing. Exits with 4 if a check fails.

    Examples:
        vla doctor
        vla doctor --device cuda
    """
    from dataclasses import asdict

    import vla
    from vla_cli.render import print_json, print_message

    if not quiet:
        print_message("Checking this machine; each check may take a few seconds ...")
    checks = []
    for check in vla.doctor(device):
        checks.append(check)
        if not as_json and not (quiet and check.is_fine):
            _print("ok" if check.is_fine else "FAILS", check.name, check.finding)
    if as_json:
        print_json([asdict(check) for check in checks])
    if not all(check.is_fine for check in checks):
        raise typer.Exit(4)
    if not (as_json or quiet):
        from vla.storage.workspace import Workspace
        from vla_cli.next_step import print_next

        if Workspace.find(check=False) is None:
            print_next("demo")


def _print(mark: str, name: str, finding: str) -> None:
    """Print one check at once, wrapped on a terminal: the next check may take a while."""
    from rich.table import Table
    from rich.text import Text

    from vla_cli.render import escape, stdout_console

    console = stdout_console()
    if not console.is_terminal:
        console.print(Text(f"{mark:<6} {escape(name):<9} {escape(finding)}"))
        sys.stdout.flush()
        return
    row = Table.grid(padding=(0, 2))
    row.add_column(width=5)
    row.add_column(width=9)
    row.add_column(overflow="fold")
    row.add_row(Text(mark, style="" if mark == "ok" else "red"), escape(name), escape(finding))
    console.print(row)
