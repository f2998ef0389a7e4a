"""Readers of records: convert decoded JSON to the types of a dataclass, with the field in each error."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from vla.errors import VlaError

LATE = "absent from records of older versions"
"""Marks a field that may be missing, as `Annotated[str, LATE]`; it has a default. Others are required."""
_LARGEST = 2**63


@dataclass(frozen=True)
class Rule:
    """A condition on a field beyond its type, as `Annotated[int, Rule(...)]`.

    Attributes:
        fits: returns whether a value of the right type is accepted.
        words: description of an accepted value, for messages.
    """

    fits: Callable[[Any], bool]
    words: str


AnyFloat = Annotated[float, "also NaN and infinity"]
"""A measurement that may be NaN or infinite."""


class Fault(Exception):
    """An invalid value; `path` grows from the inside out."""

    def __init__(self, value: Any, words: str) -> None:
        super().__init__(words)
        self.value, self.words, self.path = value, words, list[str]()

    def description(self) -> str:
        location = "".join(reversed(self.path)).lstrip(".") or "it"
        if self.value is MISSING:
            return f"{location} is missing"
        return f"{location} is {_abbreviate(self.value)}, not {self.words}"


def _abbreviate(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


_Reader = Callable[[Any], Any]


@cache
def build_reader(kind: Any, strict: bool) -> _Reader:
    """Return a function that returns a value of `kind` or raises Fault; cached by kind."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == AnyFloat:
        return _read_any_float
    if origin is Annotated:
        return _with_rules(
            build_reader(arguments[0], strict),
            [rule for rule in arguments[1:] if isinstance(rule, Rule)],
        )
    if origin is Literal:
        return _with_rules(lambda value: value, [_one_of(arguments)])
    if origin in (Union, types.UnionType):
        inner = [build_reader(a, strict) for a in arguments if a is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"records support no unions except with None: {kind}")
        return lambda value: None if value is None else inner[0](value)
    if origin in (list, frozenset) or (origin is tuple and arguments[-1] is ...):
        return _list_reader(origin, build_reader(arguments[0], strict))
    if origin is tuple:
        return _tuple_reader([build_reader(a, strict) for a in arguments])
    if origin is dict:
        return _dict_reader(build_reader(arguments[0], strict), build_reader(arguments[1], strict))
    if is_dataclass(kind):
        return _object_reader(kind, strict)
    raise TypeError(f"records do not support {kind}")


def _read_str(value: Any) -> str:
    if type(value) is not str:
        raise Fault(value, "a text")
    return value


def _read_int(value: Any) -> int:
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise Fault(value, "a whole number")
    return value


def _read_any_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise Fault(value, "a number")
    return float(value)


def _read_float(value: Any) -> float:
    number = _read_any_float(value)
    if not math.isfinite(number):
        raise Fault(value, "a finite number")
    return number


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Fault(value, "true or false")
    return value


_PLAIN: dict[Any, _Reader] = {
    str: _read_str,
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    Any: lambda value: value,
}


def _one_of(values: tuple[Any, ...]) -> Rule:
    words = "one of " + ", ".join(map(repr, values))
    return Rule(lambda value: any(type(value) is type(v) and value == v for v in values), words)


def _with_rules(inner: _Reader, rules: list[Rule]) -> _Reader:
    def read(value: Any) -> Any:
        result = inner(value)
        for rule in rules:
            if not rule.fits(result):
                raise Fault(value, rule.words)
        return result

    return read


def _list_reader(make: Callable[[Any], Any], inner: _Reader) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) is not list:
            raise Fault(value, "a list")
        return make(_read_items(inner, value))

    return read


def _read_items(inner: _Reader, values: list[Any]) -> list[Any]:
    items: list[Any] = []
    try:
        for value in values:
            items.append(inner(value))
    except Fault as fault:
        fault.path.append(f"[{len(items)}]")
        raise
    return items


def _tuple_reader(inner: list[_Reader]) -> _Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(inner):
            raise Fault(value, f"a list of {len(inner)}")
        items: list[Any] = []
        try:
            for reader, item in zip(inner, value, strict=True):
                items.append(reader(item))
        except Fault as fault:
            fault.path.append(f"[{len(items)}]")
            raise
        return tuple(items)

    return read


def _dict_reader(key_reader: _Reader, value_reader: _Reader) -> _Reader:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Fault(value, "an object")
        items = {}
        for key, item in value.items():
            try:
                items[key_reader(key)] = value_reader(item)
            except Fault as fault:
                fault.path.append(f".{key[:40]}")
                raise
        return items

    return read


def _object_reader(kind: Any, strict: bool) -> _Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = [
        (
            f.name,
            build_reader(hints[f.name], strict),
            LATE not in getattr(hints[f.name], "__metadata__", ()),
        )
        for f in fields(kind)
        if f.init
    ]
    names = {name for name, _, _ in readers}

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise Fault(value, "an object")
        values, name = {}, ""
        try:
            for name, reader, is_required in readers:
                if name in value:
                    values[name] = reader(value[name])
                elif is_required:
                    raise Fault(MISSING, "")
            if strict and len(values) < len(value):
                name = min(set(value) - names)
                raise Fault(value[name], "a key of this record")
        except Fault as fault:
            fault.path.append(f".{name[:40]}")
            raise
        try:
            return kind(**values)
        except VlaError as error:
            raise Fault(_ObjectKeys(values), f"valid: {error}") from error

    return read


class _ObjectKeys:
    """The keys of an object, for a message."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._keys = list(values)

    def __repr__(self) -> str:
        return f"an object with {', '.join(self._keys)}"
