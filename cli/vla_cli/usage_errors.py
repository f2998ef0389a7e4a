"""Messages and hints for errors in arguments, which typer raises."""

from __future__ import annotations

import difflib
import shlex
from typing import Any

import typer

from vla_cli.help import split_examples


class CommandLineError(typer.BadParameter):
    """A usage error with a hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def format_message(self) -> str:
        """Return the message without the prefix of invalid values."""
        return self.message


def quote(*words: str) -> str:
    """Return words as one argument of a shell, in double quotes where these are enough."""
    text = " ".join(words)
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def describe(error: Any) -> tuple[str, str]:
    """Return the message of a usage error and a hint; the hint is empty if there is no context."""
    message = error.format_message().rstrip(".")
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        return f"no such option: {error.option_name}", _option_hint(error)
    if hasattr(error, "param_hint") and error.param_hint is None and error.param is None:
        message = error.message.rstrip(".")
    if hint := getattr(error, "hint", ""):
        return message, hint
    return message[:1].lower() + message[1:], _help_hint(error.ctx)


def _option_hint(error: Any) -> str:
    """Suggest the command that has the option, or a similar option."""
    ctx, name = error.ctx, str(error.option_name)
    if ctx is None:
        return ""
    group = ctx.find_root().command
    owners = [
        command.name
        for command in getattr(group, "commands", {}).values()
        if any(name in p.opts or name in p.secondary_opts for p in command.params)
    ]
    if owners and ctx.command is group:
        example = owners[0] if len(owners) == 1 else "COMMAND"
        return f"put it after the command: `vla {example} {name}`"
    flags = [flag for p in ctx.command.params for flag in (*p.opts, *p.secondary_opts)]
    matches = difflib.get_close_matches(name.replace("_", "-"), flags, n=1, cutoff=0.75)
    if matches:
        return f"did you mean `{matches[0]}`? {_help_command(ctx)}"
    if owners:
        commands = ", ".join(f"`vla {owner}`" for owner in owners[:4])
        return f"{name} is an option of {commands}; {_help_command(ctx)}"
    return _help_hint(ctx)


def _help_hint(ctx: Any) -> str:
    """Name an example of the command, if it has one, and its help."""
    if ctx is None:
        return ""
    _, examples = split_examples(ctx.command.help or "")
    example = f"for example `{examples[0]}`; " if examples else ""
    return f"{example}{_help_command(ctx)}"


def _help_command(ctx: Any) -> str:
    return f"`{ctx.command_path} --help` lists the options"
