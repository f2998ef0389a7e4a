"""`vla config`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from vla_cli import options as o


def show_config(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(
            help="Show all options of this command, with their defaults.",
            metavar="COMMAND",
            show_default=False,
        ),
    ] = None,
    workspace: o.Workspace = None,
    as_json: o.Json = False,
) -> None:
    """Check vla.toml and show the settings of all commands with their sources.

    Options are set by the command line, else by environment variables such as
    VLA_DEVICE and VLA_SEARCH_TOP_K, else by the nearest vla.toml from here (or
    from the workspace) upwards. Exits with 2 if the file is invalid.

    Examples:
        vla config
        vla config search
    """
    from vla_cli.config import with_settings
    from vla_cli.render import print_json, print_line, print_table

    settings = context.obj["settings"]
    group: Any = context.parent and context.parent.command
    commands = {command: group.find(command)} if command else with_settings(group.commands)
    rows = [
        row
        for name, target in commands.items()
        for row in _rows(context, name, target, with_defaults=command is not None)
    ]
    if as_json:
        path = None if settings.path is None else str(settings.path)
        keys = ("command", "option", "value", "source")
        print_json({"file": path, "settings": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    if settings.path is None:
        print_line("No vla.toml in this folder or above it.")
    if rows:
        print_table(("command", "option", "value", "source"), _merge(rows), names=("source",))
    else:
        print_line("All options have their defaults: `vla config COMMAND` lists them.")


def _merge(rows: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    """Return the rows with one for those of all commands that share a setting."""
    counts = Counter((key, value, source) for _, key, value, source in rows)
    unique_rows = (
        ("all" if counts[key, value, source] > 1 else command, key, value, source)
        for command, key, value, source in rows
    )
    return list(dict.fromkeys(unique_rows))


def _rows(
    context: Any, name: str, command: Any, *, with_defaults: bool
) -> list[tuple[str, str, str, str]]:
    """Return command, option, value and source of its settings, and check their values.

    Raises:
        BadParameter: a value is not valid.
    """
    from vla_cli.config import format_value
    from vla_cli.config_file import configurable

    settings = context.obj["settings"]
    sub_context = type(context)(command, info_name=name, parent=context.parent)
    sub_context.obj = context.obj
    sub_context.default_map = settings.defaults(name)
    rows = []
    for key, parameter in configurable(command.params).items():
        value, origin = parameter.consume_value(sub_context, {})
        sub_context.set_parameter_source(parameter.name, origin)
        if origin.name == "DEFAULT":
            if with_defaults:
                rows.append((name, key, "" if value is None else format_value(value), "default"))
            continue
        command.check_value(sub_context, parameter, value)
        source = settings.values[name][parameter.name].source
        rows.append((name, key, format_value(value), source))
    return rows
