"""Classes of the command line: `vla help`, options before the command, safe error messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vla_cli import streams

_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Typer's base class of errors in arguments, whose module depends on the version."""


class Group(TyperGroup):
    """All commands; `vla help COMMAND` is the same as `vla COMMAND --help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the whole command line."""
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line; this prints help."""
        return _call_safely(super().make_context, *args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return _call_safely(super().invoke, ctx)


class Command(TyperCommand):
    """A command that accepts the workspace before or after its name."""

    needs_workspace = False

    def invoke(self, ctx: Any) -> Any:
        """Run the command with the options given before it.

        A required workspace is opened first, so that a missing one is reported before torch loads.
        """
        if "workspace" in ctx.params:
            if ctx.params["workspace"] is None:
                ctx.params["workspace"] = (ctx.obj or {}).get("workspace")
            if self.needs_workspace and not (
                ctx.params.get("paths") or ctx.params.get("list_formats")
            ):
                from vla.storage.workspace import Workspace

                Workspace.open(ctx.params["workspace"])
        return super().invoke(ctx)


class WorkspaceCommand(Command):
    """A command that requires a workspace unless it is given paths to create one from."""

    needs_workspace = True


def store_workspace(ctx: typer.Context, workspace: Path | None) -> None:
    """Store the workspace given before the command, for `Command`."""
    ctx.obj = {"workspace": workspace}


def _call_safely(call: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except _USAGE_ERROR as error:
        from vla_cli.formatting import escape

        error.message = escape(error.message)
        raise
    except OSError as error:
        # Typer exits with 1 for a closed pipe, which is the code for no results.
        streams.raise_for_pipe(error)
        raise
