"""`vla help`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vla_cli.grammar import Group


def show_help(
    context: typer.Context,
    command: Annotated[
        str | None,
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
    group: Group = parent.command  # type: ignore[assignment]
    if command is None:
        text = group.get_help(parent)
    else:
        target = group.find(command)
        text = target.get_help(type(context)(target, info_name=command, parent=parent))
    sys.stdout.write(text + "\n")
