"""Validation of the arguments of public functions, by their annotations, in one place."""

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


def validate_arguments(
    function: Callable[..., Any], settings: type | None = None
) -> Callable[..., Any]:
    """Wrap a function of a workflow as a public function of the library.

    A parameter annotated `Path` accepts texts and path objects; a parameter that takes several values
    also accepts a single one. Texts, numbers and booleans are checked.

    Args:
        function: the function to wrap.
        settings: a dataclass whose fields become keywords, too: `function` takes them as `**fields`, and
            the signature lists them.

    Raises:
        UsageError: an argument has another type, when the wrapped function is called.
        TypeError: a keyword is unknown; the message suggests the nearest one.
    """
    signature = _signature(function, settings)
    kinds = {name: _kind(str(p.annotation)) for name, p in signature.parameters.items()}
    if hasattr(settings, "__post_init__"):  # validates its own fields
        kinds |= dict.fromkeys([f.name for f in fields(settings)], "")  # type: ignore[arg-type]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _check_names(function.__name__, signature, kwargs)
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if value is not signature.parameters[name].default:
                bound.arguments[name] = _normalize(
                    name, value, kinds[name], str(signature.parameters[name].annotation)
                )
        return function(*bound.args, **bound.kwargs)

    parameters = [
        p.replace(annotation=_annotation(kinds[name], p))
        for name, p in signature.parameters.items()
    ]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters} | {
        "return": signature.return_annotation
    }
    return wrapper


def override_fields(base: Any, values: dict[str, Any]) -> Any:
    """Return a copy of `base`, a dataclass object, with the fields in `values` replaced."""
    return type(base)(**{f.name: values.get(f.name, getattr(base, f.name)) for f in fields(base)})


def _signature(function: Callable[..., Any], settings: type | None) -> inspect.Signature:
    """Return the signature of `function`, with the fields of `settings` in place of `**fields`."""
    signature = inspect.signature(function)
    if settings is None:
        return signature
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            # Only arguments that differ from this default are passed on, so no mutable default is shared.
            default=None if f.default is MISSING else f.default,
            annotation=f.type,
        )
        for f in fields(settings)
        if f.name not in signature.parameters
    ]
    return signature.replace(parameters=[*own, *more])


def _kind(annotation: str) -> str:
    """Return `paths`, `path`, `texts`, the name of a plain type, or an empty text."""
    if re.fullmatch(
        r"(Iterable|Sequence)\[(str \| Path|Path \| str|Path)\]|Paths( \| None)?", annotation
    ):
        return "paths"
    if re.fullmatch(r"(Iterable|Sequence)\[str\]", annotation):
        return "texts"
    names = {name.strip() for name in annotation.split("|")} - {"None"}
    if "Path" in names and names <= {"Path", "str"}:
        return "path"
    return names.pop() if len(names) == 1 and names <= set(_PLAIN) else ""


def _annotation(kind: str, parameter: inspect.Parameter) -> Any:
    """Return the annotation of the accepted values."""
    annotation: Any = {"path": PathLike, "paths": Paths, "texts": Texts}.get(kind)
    if annotation is None:
        return parameter.annotation
    return annotation | None if parameter.default is None else annotation


def _check_names(function_name: str, signature: inspect.Signature, keywords: Iterable[str]) -> None:
    for name in keywords:
        if name not in signature.parameters:
            near = difflib.get_close_matches(name, signature.parameters, n=1, cutoff=0.5)
            hint = (
                f" Did you mean {near[0]!r}?"
                if near
                else f" It takes {', '.join(signature.parameters)}."
            )
            raise TypeError(f"{function_name}() has no argument {name!r}.{hint}")


def _normalize(name: str, value: Any, kind: str, annotation: str) -> Any:
    """Convert `value` to the type that the function expects; raise UsageError for other types."""
    if value is None and "None" in annotation:
        return None
    if kind == "path":
        if not _is_path(value):
            raise UsageError(f"{name} must be a path, as text or pathlib.Path; got {value!r}")
        if not str(value).strip():
            raise UsageError(f"{name} must not be an empty path")
        return Path(value)
    if kind in ("paths", "texts"):
        return _normalize_list(name, value, kind)
    if kind:
        types, description = _PLAIN[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
            raise UsageError(f"{name} must be {description}, not {value!r}")
    return value


def _normalize_list(name: str, value: Any, kind: str) -> list[Any]:
    is_valid = _is_path if kind == "paths" else lambda item: isinstance(item, str)
    if is_valid(value):
        return [value]
    items = (
        list(value)
        if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray)
        else [value]
    )
    for item in items:
        if not is_valid(item):
            types = "texts or pathlib.Path objects" if kind == "paths" else "texts"
            raise UsageError(f"{name} must be {types}, one or a list of them; got {item!r}")
    return items


def _is_path(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    )
