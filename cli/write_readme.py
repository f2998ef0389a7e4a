"""Write docs/reference/cli.md: every command with its help; with `--check`, fail if it is out of date."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer

from vla_cli.main import app

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"


def text() -> str:
    """Return the whole page, from the options' own declarations."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    parts = [
        "# Command line\n",
        "<!-- Written by `python cli/write_readme.py`; do not edit. -->\n",
        f"{group.help}\n",
    ]
    parts.append(f"{group.epilog} See [exit codes](exit-codes.md).\n")
    for name, command in _all_commands(group):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(_argument(a) for a in arguments)
        parts.append(f"## vla {name}\n")
        parts.append(f"```\nvla {name} {usage} [OPTIONS]\n```\n".replace("  ", " "))
        parts.append(f"{_escape(command.help or '')}\n")
        rows = [_row(p) for p in command.params]
        parts.append(
            "| Argument or option | Meaning | Default |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _all_commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield all commands by their full names, those of a group after it."""
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from _all_commands(command, f"{prefix}{name} ")


def _argument(parameter: click.Parameter) -> str:
    name = (parameter.name or "").upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _row(parameter: click.Parameter) -> str:
    if parameter.param_type_name == "argument":
        names = [_argument(parameter)]
    else:
        names = [*parameter.opts, *parameter.secondary_opts]
        names[0] = f"{names[0]} {parameter.metavar or ''}".rstrip()
    default = parameter.default
    is_flag_off = default is False  # 0 is a default like any other
    is_unset = default in (None, "") or callable(default) or "Unset" in type(default).__name__
    cell = "" if is_flag_off or is_unset else "on" if default is True else f"`{default}`"
    return f"| {', '.join(f'`{name}`' for name in names)} | {_escape(getattr(parameter, 'help', '') or '')} | {cell} |"


def _escape(help_text: str) -> str:
    """Escape Markdown outside backquotes, such as the asterisk of `'*.mp4'`."""
    parts = re.split(r"(`[^`]*`)", help_text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<|])", r"\\\1", part) for part in parts
    )


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(TARGET.read_text("utf-8") != text())
    TARGET.write_text(text(), "utf-8")
