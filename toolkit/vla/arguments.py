"""The edge of the library: arguments of public functions are checked and normalised in one place, by their annotations."""

from __future__ import annotations

import difflib
import functools
import inspect
import numbers
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from vla.errors import UsageError

PathLike = str | os.PathLike[str]
"""A path as text or as an object: `"clips"`, `Path("clips")`."""
Paths = PathLike | Iterable[PathLike]
"""One path or several: `"clips"`, `["a.mp4", Path("b.mp4")]`."""
Texts = str | Iterable[str]
"""One text or several."""

_PLAIN: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "a text"),
    "int": (numbers.Integral, "a whole number"),
    "float": (numbers.Real, "a number"),
    "bool": (bool, "True or False"),
}


def validate_arguments(function: Callable[..., Any], settings: type | None = None) -> Callable[..., Any]:
    """Wrap a function of a stage as the library's public one.

    A parameter annotated `Path` takes texts and path objects, and one that takes several takes a single one, too. Texts, numbers
    and truth values are checked. A keyword that there is not is a TypeError that names the nearest one. With `settings`, a
    dataclass, its fields are keywords, too: the function takes them as `**fields`, and the signature lists them.

    Raises:
        UsageError: an argument is of another type, when the wrapped function is called.
    """
    signature = _signature(function, settings)
    kinds = {name: _kind(str(p.annotation)) for name, p in signature.parameters.items()}
    if hasattr(settings, "__post_init__"):  # these check themselves
        kinds |= dict.fromkeys([f.name for f in fields(settings)], "")  # type: ignore[arg-type]

    @functools.wraps(function)
    def checked(*args: Any, **named: Any) -> Any:
        _check_names(function.__name__, signature, named)
        bound = signature.bind(*args, **named)
        for name, value in bound.arguments.items():
            if value is not signature.parameters[name].default:
                bound.arguments[name] = _normal(name, value, kinds[name], str(signature.parameters[name].annotation))
        return function(*bound.args, **bound.kwargs)

    shown = [p.replace(annotation=_widened(kinds[name], p)) for name, p in signature.parameters.items()]
    checked.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    checked.__annotations__ = {p.name: p.annotation for p in shown} | {"return": signature.return_annotation}
    return checked


def collected(base: Any, given: dict[str, Any]) -> Any:
    """`base`, a dataclass object, with the fields in `given` in the place of its own."""
    return type(base)(**{f.name: given.get(f.name, getattr(base, f.name)) for f in fields(base)})


def _signature(function: Callable[..., Any], settings: type | None) -> inspect.Signature:
    """That of `function`, with the fields of `settings` in the place of `**fields`."""
    signature = inspect.signature(function)
    if settings is None:
        return signature
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            # Only what is given counts, so no mutable default can be shared.
            default=None if f.default is MISSING else f.default,
            annotation=f.type,
        )
        for f in fields(settings)
        if f.name not in signature.parameters
    ]
    return signature.replace(parameters=[*own, *more])


def _kind(annotation: str) -> str:
    """`paths`, `path`, `texts`, the name of a plain type, or nothing."""
    if re.fullmatch(r"(Iterable|Sequence)\[(str \| Path|Path \| str|Path)\]|Paths( \| None)?", annotation):
        return "paths"
    if re.fullmatch(r"(Iterable|Sequence)\[str\]", annotation):
        return "texts"
    names = {name.strip() for name in annotation.split("|")} - {"None"}
    if "Path" in names and names <= {"Path", "str"}:
        return "path"
    return names.pop() if len(names) == 1 and names <= set(_PLAIN) else ""


def _widened(kind: str, parameter: inspect.Parameter) -> Any:
    """The annotation of what is taken."""
    widened: Any = {"path": PathLike, "paths": Paths, "texts": Texts}.get(kind)
    if widened is None:
        return parameter.annotation
    return widened | None if parameter.default is None else widened


def _check_names(called: str, signature: inspect.Signature, named: dict[str, Any]) -> None:
    for name in named:
        if name not in signature.parameters:
            near = difflib.get_close_matches(name, signature.parameters, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else f" It takes {', '.join(signature.parameters)}."
            raise TypeError(f"{called}() has no argument {name!r}.{hint}")


def _normal(name: str, value: Any, kind: str, annotation: str) -> Any:
    """`value` as the function wants it; raises UsageError where it is of another type."""
    if value is None and "None" in annotation:
        return None
    if kind == "path":
        if not _is_path(value):
            raise UsageError(f"{name} is a path, as text or pathlib.Path; got {value!r}")
        if not str(value).strip():
            raise UsageError(f"{name} is an empty path")
        return Path(value)
    if kind in ("paths", "texts"):
        return _several(name, value, kind)
    if kind:
        accepted, said = _PLAIN[kind]
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind != "bool"):
            raise UsageError(f"{name} is {said}, not {value!r}")
    return value


def _several(name: str, value: Any, kind: str) -> list[Any]:
    fits = _is_path if kind == "paths" else lambda item: isinstance(item, str)
    if fits(value):
        return [value]
    items = list(value) if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray) else [value]
    for item in items:
        if not fits(item):
            due = "texts or pathlib.Path objects" if kind == "paths" else "texts"
            raise UsageError(f"{name} are {due}, one or a list of them; got {item!r}")
    return items


def _is_path(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str))
