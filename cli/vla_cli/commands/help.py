"""`vla help`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def show_help(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            help="A command. Default: the list of commands.", metavar="COMMAND", show_default=False
        ),
    ] = None,
) -> None:
    """Show the help of a command, like `vla COMMAND --help`.

    Examples:
        vla help
        vla help search
    """
    parent = context.parent
    assert parent is not None
    for name in command or ():
        find = getattr(parent.command, "find", None)
        if find is None:
            raise typer.BadParameter(f"`{parent.command_path}` has no commands")
        target = find(name, parent.command_path)
        parent = type(context)(target, info_name=name, parent=parent)
    sys.stdout.write(parent.command.get_help(parent) + "\n")
