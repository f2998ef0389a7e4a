"""Reader of `vla.toml`: tables of TOML as values of options, with all problems of the file at once.

The file is untrusted: it is read up to `LIMIT_BYTES`, names no code, and cannot set an option that
deletes, replaces or chooses a file to write.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.errors import UsageError
from vla_cli.help import flag_key

LIMIT_BYTES = 64 * 1024

GENERAL = (
    "workspace", "model", "pretrained", "encoder", "fps", "device", "dtype", "quiet", "verbose",
)  # fmt: skip
"""Keys that may stand above the first section: options of the same meaning in all commands."""

_OTHER_MEANING = ("model", "pretrained", "encoder", "fps")
"""Keys of `GENERAL` that mean something else in `import-features`: the model that others used."""

_COMMAND_LINE_ONLY = frozenset((
    "all-caches", "change-encoder", "help", "install-completion", "list", "missing", "output", "overwrite", "remove", "repair",
    "show-completion", "submission", "version", "yes",
))  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A value that is not from the command line.

    Attributes:
        key: name of the option without dashes, e.g. `top-k`.
        value: as the command line has it: a text, several texts, or a bool for a flag.
        source: file and line, or `$VARIABLE`.
    """

    key: str
    value: str | list[str] | bool
    source: str


def configurable(parameters: Iterable[Any]) -> dict[str, Any]:
    """Return the options among `parameters` that a file may set, by key."""
    options = (p for p in parameters if p.param_type_name == "option")
    return {key: p for p in options if (key := flag_key(p)) not in _COMMAND_LINE_ONLY}


def _by_flag(parameters: Iterable[Any]) -> dict[str, Any]:
    """Return the options that a file may set by each of their names: `k` and `top-k`."""
    return {flag.lstrip("-"): p for p in configurable(parameters).values() for flag in p.opts}


def is_general(command: str, key: str) -> bool:
    """Return whether a `key` above the first section applies to an option of `command`."""
    return key in GENERAL and not (command == "import-features" and key in _OTHER_MEANING)


def read_settings(path: Path, commands: Mapping[str, Any]) -> dict[str, dict[str, Setting]]:
    """Return the settings by the name of the command, and by that of the parameter.

    Args:
        path: the file.
        commands: click's commands by name.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has unknown keys or values of a wrong
            type; all of them are named, with their lines.
    """
    import tomllib

    from vla.storage.regular_files import read_regular

    try:
        text = read_regular(path, LIMIT_BYTES, what="settings file").decode("utf-8-sig")
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    reader = _Reader(path, text, {name: _by_flag(c.params) for name, c in commands.items()})
    reader.read(tables)
    if reader.problems:
        raise UsageError("\n".join(dict.fromkeys(reader.problems)))
    return reader.settings


class _Reader:
    """Converts the tables of a file.

    Attributes:
        settings: those without a problem, as `read_settings` returns them.
        problems: one line each.
    """

    def __init__(self, path: Path, text: str, options: Mapping[str, Mapping[str, Any]]) -> None:
        self.settings: dict[str, dict[str, Setting]] = {}
        self.problems: list[str] = []
        self._path, self._lines, self._options = path, text.splitlines(), options
        self._keys: set[tuple[str, str, str]] = set()

    def read(self, tables: Mapping[str, Any]) -> None:
        """Read general keys, and then sections, which override them."""
        sections = {key: value for key, value in tables.items() if isinstance(value, dict)}
        for key, value in tables.items():
            if key not in sections:
                self._read_general(key, value)
        for section, table in sections.items():
            command = _normalize(section)
            options = self._options.get(command, {})
            if not options:
                names = [name for name, of_command in self._options.items() if of_command]
                self._report(
                    section,
                    "",
                    f"{section!r} is not a command with settings{_suggest(command, names)}",
                )
                continue
            for key, value in table.items():
                if parameter := options.get(_normalize(key)):
                    self._add(command, section, key, parameter, value)
                else:
                    self._report(
                        section, key, _reason(key, options, f"an option of `vla {command}`")
                    )

    def _read_general(self, key: str, value: Any) -> None:
        name = _normalize(key)
        owners = [command for command, options in self._options.items() if name in options]
        if name in GENERAL:
            for command in owners:
                if is_general(command, name):
                    self._add(command, "", key, self._options[command][name], value)
        elif owners:
            sections = " or ".join(f"[{owner}]" for owner in owners)
            self._report("", key, f"{key!r} must be in the section of its command: {sections}")
        else:
            self._report("", key, _reason(key, [*GENERAL, *self._options], "a general option"))

    def _add(self, command: str, section: str, key: str, parameter: Any, value: Any) -> None:
        name = flag_key(parameter)
        if (command, section, name) in self._keys:
            self._report(section, key, f"{key!r} is set twice")
            return
        self._keys.add((command, section, name))
        if name == "workspace" and not _is_own(self._path):
            reason = (
                "the file belongs to another user and cannot choose the workspace: pass --workspace"
            )
            self._report(section, key, reason)
            return
        try:
            option_value = _option_value(parameter, value, self._path.parent)
        except ValueError as error:
            self._report(section, key, f"{key!r} {error}")
            return
        settings = self.settings.setdefault(command, {})
        settings[parameter.name] = Setting(name, option_value, self._location(section, key))

    def _report(self, section: str, key: str, reason: str) -> None:
        self.problems.append(f"{self._location(section, key)}: {reason}")

    def _location(self, section: str, key: str) -> str:
        line = self._line(section, key)
        return f"{self._path}" if line is None else f"{self._path}, line {line}"

    def _line(self, section: str, key: str) -> int | None:
        """Return the number of the line of `key`, or of the header of `section` if `key` is empty."""
        current = ""
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\s*[\"']?([^\]\"']*)[\"']?\s*\]", line):
                current = header[1].strip()
                if current == section and not key:
                    return number
            elif current == section and key:
                name = re.match(r"\s*[\"']?([^=\"']*?)[\"']?\s*=", line)
                if name and name[1] == key:
                    return number
        return None


def _normalize(key: str) -> str:
    return key.replace("_", "-")


def _reason(key: str, names: Iterable[str], kind: str) -> str:
    name = _normalize(key)
    if name in _COMMAND_LINE_ONLY:
        return f"{key!r} can only be given on the command line"
    return f"{key!r} is not {kind}{_suggest(name, names)}"


def _suggest(name: str, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, sorted(names), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _option_value(parameter: Any, value: Any, folder: Path) -> str | list[str] | bool:
    """Convert a TOML value to that of an option; raise ValueError if its type does not fit."""
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {value!r:.80}")
        return value
    if parameter.multiple and isinstance(value, list):
        return [_text(parameter, item, folder) for item in value]
    text = _text(parameter, value, folder)
    return [text] if parameter.multiple else text


def _text(parameter: Any, value: Any, folder: Path) -> str:
    """Return the text of a scalar on the command line; paths are relative to `folder`."""
    if hasattr(value, "isoformat"):  # a date of TOML
        return str(value.isoformat())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a text or a number, not {value!r:.80}")
    text = str(value)
    if parameter.metavar in ("FILE", "FOLDER") and text not in ("", "-"):
        return str(absolute(folder / Path(text).expanduser()))
    scheme, colon, path = text.partition(":")
    if parameter.metavar == "MODEL" and scheme == "local-dir" and colon:
        return f"local-dir:{absolute(folder / Path(path).expanduser())}"
    return text


def absolute(path: Path) -> Path:
    """Return `path` without `..`; links are kept."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _is_own(path: Path) -> bool:
    """Return whether the current user or root owns the file; True where files have no owner."""
    get_user = getattr(os, "getuid", None)
    return get_user is None or path.stat().st_uid in (0, get_user())
