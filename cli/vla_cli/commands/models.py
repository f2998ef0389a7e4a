"""`vla models`."""

from __future__ import annotations

from vla_cli import options as o


def models(as_json: o.Json = False) -> None:
    """List the presets of --model with the licences of their weights."""
    from vla.encoders._presets import PRESETS
    from vla_cli.render import print_json, print_table

    if as_json:
        print_json({name: preset.__dict__ for name, preset in PRESETS.items()})
        return
    rows = [
        (
            name,
            p.model if p.model != "demo" else "(embedded)",
            p.pretrained,
            p.licence,
            f"{p.parameters:g} M",
            p.remark,
        )
        for name, p in PRESETS.items()
    ]
    print_table(
        ("preset", "open_clip model", "weights", "licence", "parameters", "remark"),
        rows,
        numeric=("parameters",),
    )
