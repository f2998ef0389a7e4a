"""`vla doctor`."""

from __future__ import annotations

import typer

from vla_cli import options as o


def doctor(device: o.Device = "auto", as_json: o.Json = False) -> None:
    """Check this machine: packages, device and precision, decoders, room on the disk. Downloads nothing."""
    from vla import api
    from vla_cli.render import print_json, print_table

    found = api.doctor(device)
    if as_json:
        print_json([check.__dict__ for check in found])
    else:
        print_table(("", "what", "found"), [("ok" if c.is_fine else "!", c.name, c.finding) for c in found])
    if not all(c.is_fine for c in found):
        raise typer.Exit(4)
