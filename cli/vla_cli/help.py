"""Text of `--help`: description, examples, and options in groups, as plain lines of any width.

Typer's own help draws boxes, which also end up in pipes and in files.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

_EXAMPLES = "\nExamples:\n"


def split_examples(text: str) -> tuple[str, list[str]]:
    """Split the help of a command into its description and the lines below `Examples:`."""
    description, _, examples = f"\n{inspect.cleandoc(text)}\n".partition(_EXAMPLES)
    return description.strip(), inspect.cleandoc(examples).splitlines()


def summary(command: Any) -> str:
    """Return the first paragraph of the help of `command` as one line."""
    return " ".join(split_examples(command.help or "")[0].partition("\n\n")[0].split())


def write_description(formatter: Any, text: str) -> None:
    """Write the description of a command, wrapped, and its examples, as they are."""
    description, examples = split_examples(text)
    formatter.write_paragraph()
    formatter.write_text(description)
    if examples:
        with formatter.section("Examples"):
            for line in examples:
                formatter.write(f"{' ' * formatter.current_indent}{line}\n")


def write_parameters(formatter: Any, parameters: Sequence[Any]) -> None:
    """Write the arguments, the options, and the groups of further options, one section each."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in parameters:
        if getattr(parameter, "hidden", False):
            continue
        is_argument = parameter.param_type_name == "argument"
        title = getattr(parameter, "rich_help_panel", None) or (
            "Arguments" if is_argument else "Options"
        )
        sections.setdefault(title, []).append((_names(parameter), parameter_help(parameter)))
    _write_sections(formatter, sections)


def write_commands(formatter: Any, commands: Iterable[Any]) -> None:
    """Write the commands with their summaries, a section for each group."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for command in commands:
        if not command.hidden:
            title = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(title, []).append((command.name, summary(command)))
    width = max(len(name) for rows in sections.values() for name, _ in rows)
    # The same width in each section: a column of names that jumps is hard to read.
    _write_sections(
        formatter,
        {
            title: [(name.ljust(width), text) for name, text in rows]
            for title, rows in sections.items()
        },
    )


def parameter_help(parameter: Any) -> str:
    """Return the help of an argument or option, with its default if that is shown."""
    text = parameter.help or ""
    default = parameter.default
    if not parameter.show_default or default in (None, False, "", [], ()) or callable(default):
        return text
    return f"{text} [default: {'on' if default is True else default}]"


def flag_key(parameter: Any) -> str:
    """Return the longest name of an option without its dashes: `top-k` of `-k`, `--top-k`."""
    return str(max(parameter.opts, key=len)).lstrip("-")


def _names(parameter: Any) -> str:
    """Return `QUERY`, `-k, --top-k N` or `--sidecars / --no-sidecars`."""
    if parameter.param_type_name == "argument":
        return parameter.metavar or parameter.name.upper()
    names = ", ".join(sorted(parameter.opts, key=lambda name: name.startswith("--")))
    if parameter.secondary_opts:
        names += f" / {', '.join(parameter.secondary_opts)}"
    return names if parameter.is_flag else f"{names} {parameter.metavar}"


def _write_sections(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows, col_max=27)
