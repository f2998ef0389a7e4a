"""Records: the small JSON files of a workspace, decoded by the types of a dataclass.

A record is believed only as far as it is checked: its checksum where it has one, then the type and range of every field. So what
a record says can be used without looking again, and whatever is wrong with one is a CacheError that names the field, its value,
with the way out as its hint.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vla.errors import CacheError, VlaError
from vla.hints import Hint
from vla.storage import atomic

T = TypeVar("T")
LATE = "absent from records of older versions"
"""Marks a field that may be missing, as `Annotated[str, LATE]`; it has a default. All other fields are always written."""
_LARGEST = 2**63
_REDO = Hint("make_again")


class NewerRecordError(CacheError):
    """A record that a newer version wrote: whole, and not to be replaced or passed over as if it were damaged."""


@dataclass(frozen=True)
class Rule:
    """A condition on a field beyond its type, as `Annotated[int, Rule(...)]`.

    Attributes:
        fits: whether a value of the right type is accepted.
        words: what the value has to be, for the message.
    """

    fits: Callable[[Any], bool]
    words: str


def between(least: float, most: float) -> Rule:
    """Numbers from `least` to `most`."""
    words = f"a number from {least:g} up" if most == math.inf else f"a number from {least:g} to {most:g}"
    return Rule(lambda value: least <= value <= most, words)


def is_file_name(name: str) -> bool:
    """True if `name` stays in its folder on every system, at most 255 bytes: no separator, drive, NUL or dot in front."""
    try:
        is_short = 0 < len(name.encode("utf-8", "surrogateescape")) <= 255
    except UnicodeEncodeError:
        return False
    return is_short and PureWindowsPath(name).name == name and not name.startswith(".") and "\0" not in name


_HEX = re.compile("[0-9a-f]*")
Count = Annotated[int, between(0, 2**62)]
Positive = Annotated[int, between(1, 2**62)]
Seconds = Annotated[float, between(0, 1e12)]
Share = Annotated[float, between(0, 1)]
FileName = Annotated[str, Rule(is_file_name, "the name of a file in the same folder")]
FileNameOrEmpty = Annotated[
    str, Rule(lambda name: not name or is_file_name(name), "the name of a file in the same folder, or empty")
]
Digest = Annotated[str, Rule(lambda v: len(v) == 64 and bool(_HEX.fullmatch(v)), "a sha256 of 64 hexadecimal digits")]
Hex = Annotated[str, Rule(lambda v: bool(_HEX.fullmatch(v)), "hexadecimal digits")]
Name = Annotated[str, Rule(lambda v: bool(v) and "\0" not in v, "a name")]
AnyFloat = Annotated[float, "also NaN and infinity"]
"""A measurement that may have gone wrong: NaN and infinity are what was measured."""


def load(kind: type[T], path: Path, hint: Hint = _REDO, *, schema: int | None = None) -> T:
    """The record of `kind`, a dataclass, at `path`.

    Args:
        kind: its fields name the keys; those marked LATE may be missing. Types: str, int, float, bool, None, Any, Literal,
            lists, tuples, frozensets, dicts with str keys, unions with None, dataclasses, and these `Annotated` with a `Rule`. A
            bool is no number, and a float is finite unless it is an `AnyFloat`.
        path: of the file.
        hint: the way out where it cannot be used.
        schema: the latest version of `kind` that is understood, if the record has a `schema`.

    Raises:
        CacheError: it cannot be read, is damaged or was altered.
        NewerRecordError: it is of a newer schema.
    """
    stored = atomic.read_record(path, hint)
    return decode(kind, stored.value, str(path), hint, schema=schema, strict=not stored.is_checked)


def decode(
    kind: type[T],
    value: Any,
    source: str,
    hint: Hint = _REDO,
    *,
    schema: int | None = None,
    strict: bool = False,
) -> T:
    """`value`, which JSON made, as `kind`; see `load`.

    With `strict` keys that `kind` does not have are refused: without a checksum nothing else tells a damaged key from a new one.
    """
    if schema is not None and isinstance(value, dict):
        version = value.get("schema")
        if isinstance(version, int) and not isinstance(version, bool) and version > schema:
            raise NewerRecordError(f"{source} was written by a newer vla (schema {version}): upgrade vla")
    try:
        found: T = _reader(kind, strict)(value)  # type: ignore[arg-type]
        return found
    except _Fault as fault:
        raise CacheError(f"{source} is damaged ({fault.told()})", hint=hint) from None


class _Fault(Exception):
    """A value that does not fit; `path` grows from the inside out."""

    def __init__(self, value: Any, words: str) -> None:
        super().__init__(words)
        self.value, self.words, self.path = value, words, list[str]()

    def told(self) -> str:
        where = "".join(reversed(self.path)).lstrip(".") or "it"
        return f"{where} is missing" if self.value is MISSING else f"{where} is {_brief(self.value)}, not {self.words}"


def _brief(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


_Reader = Callable[[Any], Any]


@cache
def _reader(kind: Any, strict: bool) -> _Reader:
    """A function that returns a value of `kind` or raises _Fault; made once for each kind."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == AnyFloat:
        return _any_float
    if origin is Annotated:
        return _ruled(_reader(arguments[0], strict), [rule for rule in arguments[1:] if isinstance(rule, Rule)])
    if origin is Literal:
        return _ruled(lambda value: value, [_one_of(arguments)])
    if origin in (Union, types.UnionType):
        inner = [_reader(a, strict) for a in arguments if a is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"records know no unions but with None: {kind}")
        return lambda value: None if value is None else inner[0](value)
    if origin in (list, frozenset) or (origin is tuple and arguments[-1] is ...):
        return _many(origin, _reader(arguments[0], strict))
    if origin is tuple:
        return _row([_reader(a, strict) for a in arguments])
    if origin is dict:
        return _table(_reader(arguments[0], strict), _reader(arguments[1], strict))
    if is_dataclass(kind):
        return _object(kind, strict)
    raise TypeError(f"records know no {kind}")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _Fault(value, "a text")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise _Fault(value, "a whole number")
    return value


def _any_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise _Fault(value, "a number")
    return float(value)


def _float(value: Any) -> float:
    number = _any_float(value)
    if not math.isfinite(number):
        raise _Fault(value, "a finite number")
    return number


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise _Fault(value, "true or false")
    return value


_PLAIN: dict[Any, _Reader] = {str: _text, int: _whole, float: _float, bool: _truth, Any: lambda value: value}


def _one_of(values: tuple[Any, ...]) -> Rule:
    words = "one of " + ", ".join(map(repr, values))
    return Rule(lambda value: any(type(value) is type(v) and value == v for v in values), words)


def _ruled(inner: _Reader, rules: list[Rule]) -> _Reader:
    def read(value: Any) -> Any:
        found = inner(value)
        for rule in rules:
            if not rule.fits(found):
                raise _Fault(value, rule.words)
        return found

    return read


def _many(make: Callable[[Any], Any], inner: _Reader) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) is not list:
            raise _Fault(value, "a list")
        return make(_each(inner, value))

    return read


def _each(inner: _Reader, values: list[Any]) -> list[Any]:
    found: list[Any] = []
    try:
        for value in values:
            found.append(inner(value))
    except _Fault as fault:
        fault.path.append(f"[{len(found)}]")
        raise
    return found


def _row(inner: list[_Reader]) -> _Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(inner):
            raise _Fault(value, f"a list of {len(inner)}")
        found: list[Any] = []
        try:
            for reader, item in zip(inner, value, strict=True):
                found.append(reader(item))
        except _Fault as fault:
            fault.path.append(f"[{len(found)}]")
            raise
        return tuple(found)

    return read


def _table(of_key: _Reader, of_value: _Reader) -> _Reader:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Fault(value, "an object")
        found = {}
        for key, item in value.items():
            try:
                found[of_key(key)] = of_value(item)
            except _Fault as fault:
                fault.path.append(f".{key[:40]}")
                raise
        return found

    return read


def _object(kind: Any, strict: bool) -> _Reader:
    hints = get_type_hints(kind, include_extras=True)
    own = [
        (f.name, _reader(hints[f.name], strict), LATE not in getattr(hints[f.name], "__metadata__", ()))
        for f in fields(kind)
        if f.init
    ]
    names = {name for name, _, _ in own}

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _Fault(value, "an object")
        given, name = {}, ""
        try:
            for name, reader, is_required in own:
                if name in value:
                    given[name] = reader(value[name])
                elif is_required:
                    raise _Fault(MISSING, "")
            if strict and len(given) < len(value):
                name = min(set(value) - names)
                raise _Fault(value[name], "a key of this record")
        except _Fault as fault:
            fault.path.append(f".{name[:40]}")
            raise
        try:
            return kind(**given)
        except VlaError as error:
            raise _Fault(_Shown(given), f"right: {error}") from error

    return read


class _Shown:
    """An object in a message."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._keys = list(given)

    def __repr__(self) -> str:
        return f"an object with {', '.join(self._keys)}"
