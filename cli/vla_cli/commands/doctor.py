"""`vla doctor`."""

from __future__ import annotations

import sys

import typer

from vla_cli import options as o


def doctor(device: o.Device = "auto", as_json: o.Json = False) -> None:
    """Try what vla does on this machine: decode, read and write, index, encode. Downloads nothing; exit code 4 if one fails."""
    from dataclasses import asdict

    import vla
    from vla_cli.render import print_json

    found = []
    for check in vla.doctor(device):
        found.append(check)
        if not as_json:
            _print("ok" if check.is_fine else "FAILS", check.name, check.finding)
    if as_json:
        print_json([asdict(check) for check in found])
    if not all(check.is_fine for check in found):
        raise typer.Exit(4)


def _print(mark: str, name: str, finding: str) -> None:
    """One line, or on a terminal as many as it needs, at once: the next check may take a while."""
    from rich.table import Table
    from rich.text import Text

    from vla_cli.hints import worded
    from vla_cli.render import out, shown

    console = out()
    if not console.is_terminal:
        console.print(Text(shown(f"{mark:<6} {name:<9} {worded(finding)}")))
        sys.stdout.flush()
        return
    row = Table.grid(padding=(0, 2))
    row.add_column(width=5)
    row.add_column(width=9)
    row.add_column(overflow="fold")
    row.add_row(Text(mark, style="" if mark == "ok" else "red"), shown(name), shown(finding))
    console.print(row)
