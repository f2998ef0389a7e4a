"""Write cli/README.md: every command with its help; with `--check`, fail if it is out of date."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import typer

from vla_cli.main import app

TARGET = Path(__file__).parent / "README.md"


def text() -> str:
    """The whole file, from the options' own declarations."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    parts = ["# The `vla` command\n", "Written by `python cli/write_readme.py`; do not edit.\n", f"{group.help}\n"]
    parts.append(f"{group.epilog}\n")
    for name, command in group.commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(_argument(a) for a in arguments)
        parts.append(f"## vla {name} {usage}".rstrip() + "\n")
        parts.append(f"{command.help}\n")
        rows = [_row(p, command) for p in command.params]
        parts.append("| | | default |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _argument(parameter: click.Parameter) -> str:
    shown = (parameter.name or "").upper() + ("..." if parameter.nargs == -1 else "")
    return shown if parameter.required else f"[{shown}]"


def _row(parameter: click.Parameter, command: click.Command) -> str:
    names = _argument(parameter) if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
    default = parameter.default
    shown = (
        "" if default in (None, "", False) or callable(default) or "Unset" in type(default).__name__ else f"`{default}`"
    )
    return f"| `{names}` | {getattr(parameter, 'help', '') or ''} | {shown} |"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(TARGET.read_text("utf-8") != text())
    TARGET.write_text(text(), "utf-8")
