"""Settings of the command line from environment variables and the nearest `vla.toml`.

Precedence: command line, environment, file, built-in default. Click reads the values of the file as the defaults of
the options, so that their types and ranges are checked like those of the command line. The library does not
read the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_cli.config_file import Setting, absolute, configurable, is_general, read_settings
from vla_cli.help import flag_key

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
    """Contents of the nearest `vla.toml`.

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
        return f"--{setting.key}{value} is set in {self.location(setting)}"

    def location(self, setting: Setting) -> str:
        """Return the file and the line of a setting."""
        return f"{self.path}" + ("" if setting.line is None else f", line {setting.line}")


def load(folder: Path | str | None, commands: Mapping[str, Any]) -> Settings:
    """Return the settings of the nearest file, from `folder`, `$VLA_WORKSPACE` or here upwards.

    Args:
        folder: the folder given as workspace, if any.
        commands: click's commands by name.

    Raises:
        UsageError: as for `read_settings`.
    """
    start = absolute(Path(folder or os.environ.get("VLA_WORKSPACE") or "."))
    for parent in (start, *start.parents):
        if os.path.lexists(parent / FILE):
            return Settings(parent / FILE, read_settings(parent / FILE, with_settings(commands)))
    return Settings()


def with_settings(commands: Mapping[str, Any]) -> dict[str, Any]:
    """Return the commands that read settings: all but those that have commands of their own."""
    return {name: command for name, command in commands.items() if not hasattr(command, "commands")}


def path_of(ctx: Any) -> str:
    """Return the name of a command, such as `search` or `models fetch`."""
    return str(ctx.command_path).partition(" ")[2]


def set_variables(command: str, parameters: Iterable[Any]) -> None:
    """Let click read options of `command` from variables such as VLA_SEARCH_TOP_K and VLA_DEVICE.

    Repeatable options have none: click would split their value at spaces. VLA_WORKSPACE is read by the
    library.
    """
    for key, parameter in configurable(parameters).items():
        # All commands share the parameters `quiet` and `verbose`.
        if key in ("workspace", "quiet", "verbose") or parameter.multiple:
            continue
        names = [f"VLA_{command}_{key}", *([f"VLA_{key}"] if is_general(command, key) else [])]
        parameter.envvar = [re.sub("[- ]", "_", name.upper()) for name in names]
        parameter.show_envvar = False


def format_value(value: object) -> str:
    """Return a value as on the command line; several are separated by commas."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def source(ctx: Any, parameter: Any) -> str:
    """Return the origin of a value: COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (`vla.toml`) or DEFAULT."""
    origin = ctx.get_parameter_source(parameter.name)
    return "DEFAULT" if origin is None else str(origin.name)


def notes(ctx: Any, parameters: Iterable[Any]) -> list[str]:
    """Return a sentence on each value that comes from `vla.toml` or from the environment."""
    settings = (ctx.obj or {}).get("settings") or Settings()
    sentences = []
    for parameter in parameters:
        origin = source(ctx, parameter)
        if origin == "DEFAULT_MAP":
            sentences.append(settings.describe(path_of(ctx), parameter.name))
        elif origin == "ENVIRONMENT":
            name = variable(parameter)
            sentences.append(f"--{flag_key(parameter)} {os.environ[name]} is set by ${name}")
    return sentences


def variable(parameter: Any) -> str:
    """Return the environment variable that sets an option."""
    return next(name for name in parameter.envvar if os.environ.get(name))


def drop_alternatives(ctx: Any, parameters: Iterable[Any]) -> None:
    """Drop values of the file if the command line or the environment has an alternative."""
    by_name = {p.name: p for p in parameters}
    for names in _ALTERNATIVES:
        members = [by_name[name] for name in names if name in by_name]
        if any(source(ctx, p) in ("COMMANDLINE", "ENVIRONMENT") for p in members):
            for parameter in members:
                if source(ctx, parameter) == "DEFAULT_MAP":
                    ctx.params[parameter.name] = parameter.default
                    kinds = type(ctx.get_parameter_source(parameter.name))
                    ctx.set_parameter_source(parameter.name, kinds.DEFAULT)
