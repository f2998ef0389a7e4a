"""The grammar of the command line: `vla help`, options before the command, and errors that no title of a file can disarrange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vla_cli import streams

_REFUSAL: Any = typer.BadParameter.__mro__[2]
"""Typer's base of all errors about arguments, wherever the installed version keeps it."""


class Group(TyperGroup):
    """All commands. `vla help COMMAND` is `vla COMMAND --help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Arguments of the whole command line."""
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
        return super().parse_args(ctx, args)

    def make_context(self, *given: Any, **named: Any) -> Any:
        """Parse; help is printed here."""
        return _guarded(super().make_context, *given, **named)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return _guarded(super().invoke, ctx)


class Command(TyperCommand):
    """One command: takes the workspace named before it; looks for one that must exist before torch is loaded."""

    needs_workspace = False

    def invoke(self, ctx: Any) -> Any:
        """Run the command with the options from before it filled in."""
        if "workspace" in ctx.params:
            if ctx.params["workspace"] is None:
                ctx.params["workspace"] = (ctx.obj or {}).get("workspace")
            if self.needs_workspace and not (ctx.params.get("paths") or ctx.params.get("list_formats")):
                from vla.storage.workspace import Workspace

                Workspace.open(ctx.params["workspace"])
        return super().invoke(ctx)


class InWorkspace(Command):
    """A command that needs a workspace, unless it is given paths to make one from."""

    needs_workspace = True


def remember(ctx: typer.Context, workspace: Path | None) -> None:
    """Keep what was given before the command for `Command`."""
    ctx.obj = {"workspace": workspace}


def _guarded(call: Any, *given: Any, **named: Any) -> Any:
    try:
        return call(*given, **named)
    except _REFUSAL as error:
        from vla_cli.words import shown

        error.message = shown(error.message)
        raise
    except OSError as error:
        # Typer takes a closed pipe for exit code 1, which means that nothing was found.
        streams.raise_if_reader_gone(error)
        raise
