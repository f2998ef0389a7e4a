"""Registry of plug-ins: a shelf is a package, and each of its modules defines one plug-in.

The plug-in is the module's class or function with the name that the shelf prescribes.
"""

from __future__ import annotations

import difflib
import inspect
import math
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from vla.errors import EnvironmentUnfitError, UnknownNameError, UsageError

SHELVES = (
    "decoders",
    "encoders",
    "datasets",
    "projectors",
    "heads",
    "losses",
    "indexes",
    "formats",
)

# Distributions whose name differs from that of their module.
_PIP_NAME = {
    "av": "av",
    "faiss": "faiss-cpu",
    "open_clip": "open_clip_torch",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
}


class Registry:
    """The plug-ins of one shelf, e.g. `Registry("vla.encoders", "Encoder")`.

    Each module of the package is a plug-in with the module's name, except `base` and modules with a
    leading underscore. Other distributions add plug-ins in the entry-point group named like the package;
    the package's own modules take precedence.
    """

    def __init__(self, package: str, symbol: str) -> None:
        self.package = package
        self.symbol = symbol

    def names(self) -> tuple[str, ...]:
        """Return the sorted names of all plug-ins, without importing them."""
        return tuple(sorted({*self._own(), *self._third_party()}))

    def get(self, name: str) -> Any:
        """Import the module of a plug-in and return the plug-in.

        Raises:
            UnknownNameError: no plug-in has that name; the message lists all names.
            EnvironmentUnfitError: the plug-in needs a package that is not installed (the message has the
                pip command), or its import fails (the message has its distribution and the reason).
        """
        if name in self._own():
            target = f"{self.package}.{name}"
            try:
                return getattr(import_module(target), self.symbol)
            except ModuleNotFoundError as error:
                missing = (error.name or "").split(".")[0]
                if missing == self.package.split(".")[0]:
                    raise
                raise EnvironmentUnfitError(
                    f"{self._kind} {name!r} needs the package {missing!r}, which is not "
                    f"installed: {pip_line(missing)}"
                ) from error
        third_party = self._third_party()
        if name in third_party:
            return self._load(third_party[name])
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownNameError(
            f"no {self._kind} is called {name!r}; there are {', '.join(self.names())}.{hint}"
        )

    def loadable(self) -> dict[str, Any]:
        """Return the plug-ins by name, without those of other distributions that cannot be loaded."""
        plugins = {}
        for name in self.names():
            try:
                plugins[name] = self.get(name)
            except EnvironmentUnfitError:
                if name in self._own():
                    raise
        return plugins

    def third_party_names(self) -> tuple[str, ...]:
        """Return the sorted names of plug-ins of other distributions."""
        return tuple(sorted(set(self._third_party()) - self._own()))

    def build(self, name: str, options: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
        """Return `get(name)(**options, **arguments)`.

        Options come from recipes and run files and are checked. On every shelf, an int is at least 1 and
        a float at least 0, unless the default is less.

        Raises:
            UsageError: the constructor lacks an option (the message lists its options), or a value is
                invalid for it.
        """
        factory = self.get(name)
        parameters = inspect.signature(factory).parameters
        for key, value in (options or {}).items():
            if key not in parameters:
                names = ", ".join(k for k in parameters if k not in arguments) or "none"
                raise UsageError(f"{self._kind} {name!r} has no option {key!r}; it has: {names}")
            if requirement := _check_option(parameters[key], value):
                raise UsageError(
                    f"{self._kind} {name!r}: option {key} must be {requirement}, not {value!r}"
                )
        return factory(**{**(options or {}), **arguments})

    def _load(self, entry: EntryPoint) -> Any:
        try:
            plugin = entry.load()
            if not callable(plugin):
                raise TypeError(f"{entry.value} is neither a class nor a function")
        except Exception as error:  # the import may raise anything
            owner = (
                f"{entry.dist.name} {entry.dist.version}" if entry.dist else "another distribution"
            )
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            missing = (
                (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
            )
            if missing:
                remedy = pip_line(missing)
            else:
                remedy = f"pip install --upgrade {entry.dist.name}" if entry.dist else "remove it"
            raise EnvironmentUnfitError(
                f"{self._kind} {entry.name!r} of {owner} cannot be loaded ({reason}). Try: {remedy}"
            ) from error
        return plugin

    @property
    def _kind(self) -> str:
        return (
            self.package.rsplit(".", 1)[-1]
            .rstrip("s")
            .replace("indexe", "index")
            .replace("losse", "loss")
        )

    def _own(self) -> frozenset[str]:
        spec = find_spec(self.package)
        if spec is None or spec.submodule_search_locations is None:
            return frozenset()
        modules = pkgutil.iter_modules(spec.submodule_search_locations)
        return frozenset(m.name for m in modules if not m.name.startswith("_") and m.name != "base")

    def _third_party(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=self.package)}


def registries() -> tuple[Registry, ...]:
    """Return the registries of all shelves."""
    return tuple(import_module(f"vla.{shelf}").registry for shelf in SHELVES)


def pip_line(module: str) -> str:
    """Return the pip command that installs the top-level module `module`."""
    return f"pip install {_PIP_NAME.get(module, module)}"


def _check_option(option: inspect.Parameter, value: Any) -> str:
    """Return the description of a valid value if `value` is invalid, else an empty text.

    Only options annotated as str, bool, int or float are checked.
    """
    kind = (
        option.annotation
        if isinstance(option.annotation, str)
        else getattr(option.annotation, "__name__", "")
    )
    if kind in ("str", "bool"):
        requirement = {"str": "a text", "bool": "true or false"}[kind]
        return "" if isinstance(value, {"str": str, "bool": bool}[kind]) else requirement
    if kind not in ("int", "float"):
        return ""
    default = option.default if isinstance(option.default, int | float) else 1
    minimum = min(default, 1 if kind == "int" else 0)
    requirement = f"a {'whole ' if kind == 'int' else ''}number" + (
        f" of at least {minimum}" if default >= 0 else ""
    )
    is_number = isinstance(value, int if kind == "int" else int | float) and not isinstance(
        value, bool
    )
    return (
        ""
        if is_number and math.isfinite(value) and (value >= minimum or default < 0)
        else requirement
    )
