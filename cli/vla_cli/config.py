"""Settings of the command line from environment variables and the nearest `vla.toml`.

Precedence: command line, environment, file, built-in default. Click reads the values of the file as the defaults of
the options, so that their types and ranges are checked like those of the command line. The library does not
read the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_cli.config_file import Setting, absolute, configurable, is_general, read_settings

FILE = "vla.toml"

_ALTERNATIVES = (
    ("model", "pretrained", "encoder"),
    ("fps", "num_frames", "keyframes", "scenes"),
    ("queries", "image", "like"),
    ("as_json", "as_jsonl", "as_csv", "as_paths", "null"),
)
"""Parameters of one choice: one on the command line replaces all others of the file."""


@dataclass(frozen=True)
class Settings:
    """Values from the environment and from the nearest `vla.toml`.

    Attributes:
        path: the file; None if there is none.
        values: by the name of the command, and by that of the parameter.
    """

    path: Path | None = None
    values: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)

    def defaults(self, command: str) -> dict[str, Any]:
        """Return the values for `command`, for click's `default_map`."""
        return {name: setting.value for name, setting in self.values.get(command, {}).items()}

    def describe(self, command: str, parameter: str) -> str:
        """Return e.g. `--top-k 5 is set in /videos/vla.toml, line 3`."""
        setting = self.values[command][parameter]
        value = "" if setting.value is True else f" {format_value(setting.value)}"
        verb = "set by" if setting.source.startswith("$") else "set in"
        return f"--{setting.key}{value} is {verb} {setting.source}"


def load(folder: Path | str | None, commands: Mapping[str, Any]) -> Settings:
    """Return the settings from the environment and from the nearest file.

    Args:
        folder: the folder given as workspace, if any. The file is searched for from there,
            `$VLA_WORKSPACE` or here upwards.
        commands: click's commands by name.

    Raises:
        UsageError: as for `read_settings`.
    """
    commands = with_settings(commands)
    start = absolute(Path(folder or os.environ.get("VLA_WORKSPACE") or "."))
    paths = (parent / FILE for parent in (start, *start.parents))
    path = next((path for path in paths if os.path.lexists(path)), None)
    of_file = {} if path is None else read_settings(path, commands)
    values = {}
    for name, command in commands.items():
        variables = _read_variables(name, command.params)
        of_path = _without_alternatives(of_file.get(name, {}), variables)
        values[name] = {**of_path, **variables}
    return Settings(path, values)


def _read_variables(command: str, parameters: Iterable[Any]) -> dict[str, Setting]:
    """Return the settings of variables such as VLA_SEARCH_TOP_K and VLA_DEVICE, by parameter.

    Repeatable options have none, because their values would have to be split. VLA_WORKSPACE is read
    by the library.
    """
    settings = {}
    for key, parameter in configurable(parameters).items():
        if key == "workspace" or parameter.multiple:
            continue
        names = [f"VLA_{command}_{key}", *([f"VLA_{key}"] if is_general(command, key) else [])]
        for name in (re.sub("[- ]", "_", name.upper()) for name in names):
            if value := os.environ.get(name):
                settings[parameter.name] = Setting(key, value, f"${name}")
                break
    return settings


def _without_alternatives(
    settings: Mapping[str, Setting], names: Collection[str]
) -> dict[str, Setting]:
    """Return `settings` without those of a group of `_ALTERNATIVES` of which `names` has one."""
    groups = [group for group in _ALTERNATIVES if not set(group).isdisjoint(names)]
    return {name: s for name, s in settings.items() if not any(name in group for group in groups)}


def with_settings(commands: Mapping[str, Any]) -> dict[str, Any]:
    """Return the commands that read settings: all but those that have commands of their own."""
    return {name: command for name, command in commands.items() if not hasattr(command, "commands")}


def path_of(ctx: Any) -> str:
    """Return the name of a command, such as `search` or `models fetch`."""
    return str(ctx.command_path).partition(" ")[2]


def format_value(value: object) -> str:
    """Return a value as on the command line; several are separated by commas."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def is_setting(ctx: Any, parameter: Any) -> bool:
    """Return whether a value is from the environment or the file."""
    source = ctx.get_parameter_source(parameter.name)
    return source is not None and source.name == "DEFAULT_MAP"


def notes(ctx: Any, parameters: Iterable[Any]) -> list[str]:
    """Return a sentence on each value that comes from the environment or the file."""
    settings = (ctx.obj or {}).get("settings") or Settings()
    return [
        settings.describe(path_of(ctx), parameter.name)
        for parameter in parameters
        if is_setting(ctx, parameter)
    ]


def drop_alternatives(ctx: Any, parameters: Iterable[Any]) -> None:
    """Drop settings if the command line has an alternative."""
    sources = {p.name: ctx.get_parameter_source(p.name) for p in parameters}
    by_name = {p.name: p for p in parameters}
    for names in _ALTERNATIVES:
        members = [name for name in names if sources.get(name) is not None]
        if any(sources[name].name == "COMMANDLINE" for name in members):
            for name in members:
                if sources[name].name == "DEFAULT_MAP":
                    ctx.params[name] = by_name[name].default
                    ctx.set_parameter_source(name, type(sources[name]).DEFAULT)
