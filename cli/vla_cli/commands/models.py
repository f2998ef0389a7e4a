"""`vla models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vla_cli import options as o

if TYPE_CHECKING:
    from vla.encoders._presets import Preset


def models(as_json: o.Json = False) -> None:
    """List the presets of --model with the licences of their weights.

    Examples:
        vla models
    """
    from vla.encoders._presets import PRESETS
    from vla_cli.render import print_json, print_table

    if as_json:
        print_json({name: preset.__dict__ for name, preset in PRESETS.items()})
        return
    rows = [
        (
            name,
            _model_cell(p),
            p.pretrained or "-",
            p.licence,
            f"{p.parameters:g} M",
            p.remark,
        )
        for name, p in PRESETS.items()
    ]
    print_table(
        ("preset", "model", "weights", "licence", "parameters", "remark"),
        rows,
        numeric=("parameters",),
    )


def _model_cell(preset: Preset) -> str:
    if preset.model == "demo":
        return "(embedded)"
    return preset.model if preset.encoder == "open_clip" else f"{preset.model} ({preset.encoder})"
