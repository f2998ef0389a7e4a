"""Classes of the command line: help, options before or after the command, settings, safe errors."""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vla.errors import VlaError
from vla_cli import config, help, streams
from vla_cli.usage_errors import CommandLineError

USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Typer's base class of errors in arguments, whose module depends on the version."""

_BEFORE_OR_AFTER = ("workspace", "quiet", "verbose")
"""Options that are accepted before and after the command; each command has the last two."""


class Group(TyperGroup):
    """Commands: all of them, or those below one name."""

    shared_names: Sequence[str] = ()
    """Names of parameters of the group of all commands, whose values the function does not take."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._share({p.name: p for p in self.params if p.name in _BEFORE_OR_AFTER}, self)

    def _share(self, general: Mapping[str, Any], group: Group) -> None:
        """Give every command below `group` the options of `general` that it lacks."""
        for command in group.commands.values():
            names = {p.name for p in command.params}
            missing = [n for n in _BEFORE_OR_AFTER[1:] if n in general and n not in names]
            command.shared_names = [*command.shared_names, *missing]  # type: ignore[attr-defined]
            command.params += [general[n] for n in missing]
            if isinstance(command, Group):
                self._share(general, command)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the whole command line; without any, they are `--help`."""
        return super().parse_args(ctx, args or ([] if self.invoke_without_command else ["--help"]))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that `args` begin with, and its arguments."""
        if not args[0].startswith("-"):
            self.find(args[0], ctx.command_path)
        return super().resolve_command(ctx, args)

    def find(self, name: str, path: str = "vla") -> Any:
        """Return a command of this group, whose own name is `path`.

        Raises:
            CommandLineError: there is no such command; the hint is the most similar one.
        """
        if name not in self.commands:
            matches = difflib.get_close_matches(name.lower(), self.commands, n=1)
            suggestion = f"did you mean `{path} {matches[0]}`? " if matches else ""
            raise CommandLineError(
                f"no such command: {name}", f"{suggestion}`{path} --help` lists the commands"
            )
        return self.commands[name]

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line; this prints help."""
        return _call_safely(super().make_context, *args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, with the options given before it."""
        if ctx.parent is not None:
            values = {name: ctx.params.pop(name) for name in self.shared_names}
            ctx.obj = {**ctx.obj, **{k: v or ctx.obj[k] for k, v in values.items()}}
        return _call_safely(super().invoke, ctx)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the description."""
        help.write_description(formatter, self.help or "")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the last paragraphs."""
        formatter.write_paragraph()
        formatter.write_text(self.epilog or "")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by group, and the options."""
        help.write_commands(formatter, self.commands.values())
        help.write_parameters(formatter, self.get_params(ctx))


class Command(TyperCommand):
    """A command that accepts the options of `_BEFORE_OR_AFTER` before or after its name."""

    needs_workspace = False
    reads_settings = True
    shared_names: Sequence[str] = ()
    """As for `Group`."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the description and the examples."""
        help.write_description(formatter, self.help or "")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options by group."""
        help.write_parameters(formatter, self.get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; options that are not given have the defaults of `vla.toml`."""
        options, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        is_run = not (options.get("help") or ctx.resilient_parsing)
        if is_run and self.reads_settings and ctx.parent is not None:
            folder = options.get("workspace") or (ctx.obj or {}).get("workspace")
            settings = config.load(folder, ctx.find_root().command.commands)
            ctx.obj = {**(ctx.obj or {}), "settings": settings}
            ctx.default_map = settings.defaults(config.path_of(ctx))
        try:
            return super().parse_args(ctx, args)
        except USAGE_ERROR as error:
            _note_file(ctx, error)
            raise

    def check_value(self, ctx: Any, parameter: Any, value: Any) -> None:
        """Check a value from the environment or `vla.toml`; raise BadParameter if it is invalid."""
        try:
            parameter.process_value(ctx, value)
        except USAGE_ERROR as error:
            _note_file(ctx, error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command with the options given before it.

        A required workspace is opened first, so that a missing one is reported before torch loads.
        """
        before = ctx.obj or {}
        config.drop_alternatives(ctx, self.params)
        for name in ("quiet", "verbose"):
            ctx.params[name] = ctx.params.get(name, False) or before.get(name, False)
        if "workspace" in ctx.params:
            self._set_workspace(ctx, before.get("workspace"))
        start = time.monotonic()
        if ctx.params["verbose"]:
            _print_details(ctx)
        values = {n: ctx.params.pop(n) for n in self.shared_names}
        try:
            return super().invoke(ctx)
        except VlaError as error:
            _add_notes(error, config.notes(ctx, self.params))
            raise
        finally:
            ctx.params.update(values)
            if ctx.params["verbose"]:
                sys.stderr.write(f"{time.monotonic() - start:.2f} s\n")

    def _set_workspace(self, ctx: Any, before: Path | None) -> None:
        option = next(p for p in self.params if p.name == "workspace")
        is_from_file = config.is_setting(ctx, option)
        if ctx.params["workspace"] is None or (is_from_file and before is not None):
            ctx.params["workspace"] = before
        elif is_from_file and os.environ.get("VLA_WORKSPACE"):
            ctx.params["workspace"] = None
        if self.needs_workspace and not (ctx.params.get("paths") or ctx.params.get("list_formats")):
            from vla.storage.workspace import Workspace

            Workspace.open(ctx.params["workspace"])


class HelpCommand(Command):
    """A command that works without valid settings."""

    reads_settings = False


class WorkspaceCommand(Command):
    """A command that requires a workspace unless it is given paths to create one from."""

    needs_workspace = True


def _print_details(ctx: Any) -> None:
    """Print versions, the workspace and settings on stderr, for reports of bugs."""
    import platform

    from vla import __version__
    from vla.storage.workspace import Workspace
    from vla_cli.formatting import print_message

    os.environ["VLA_DEBUG"] = os.environ.get("VLA_DEBUG") or "1"
    print_message(f"vla {__version__}, Python {platform.python_version()}, {platform.platform()}")
    if "workspace" in ctx.params:
        workspace = Workspace.find(ctx.params["workspace"], check=False)
        print_message(f"workspace: {workspace.root if workspace else 'none'}")
    for note in config.notes(ctx, ctx.command.params):
        print_message(note)


def _add_notes(error: Exception, notes: list[str]) -> None:
    """Attach notes to an error, for `main`."""
    for note in notes:
        error.add_note(note)


def _note_file(ctx: Any, error: Any) -> None:
    """Name the line of `vla.toml` that an invalid value comes from."""
    if (parameter := getattr(error, "param", None)) is not None:
        _add_notes(error, config.notes(ctx, [parameter]))


def _call_safely(call: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except USAGE_ERROR as error:
        from vla_cli.formatting import escape

        error.message = escape(error.message)
        raise
    except OSError as error:
        # Typer exits with 1 for a closed pipe, which is the code for no results.
        streams.raise_for_pipe(error)
        raise
