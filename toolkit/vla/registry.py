"""Plug-ins by name: a shelf is a package, a plug-in is a file of it, and the file's agreed symbol is the plug-in."""

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

SHELVES = ("decoders", "encoders", "datasets", "projectors", "heads", "losses", "indexes", "formats")

# Modules whose package has another name.
_PIP_NAME = {"av": "av", "faiss": "faiss-cpu", "open_clip": "open_clip_torch", "cv2": "opencv-python", "yaml": "pyyaml",
             "PIL": "pillow", "sklearn": "scikit-learn"}  # fmt: skip


class Registry:
    """The plug-ins of one shelf: `Registry("vla.encoders", "Encoder")`.

    Every module of the package without a leading underscore, `base` excepted, is one plug-in, named like its file.
    Other distributions add theirs under the entry-point group of the package's name; a file of ours wins over them.
    """

    def __init__(self, package: str, symbol: str) -> None:
        self.package = package
        self.symbol = symbol

    def names(self) -> tuple[str, ...]:
        """Every plug-in's name, sorted; none of them is imported."""
        return tuple(sorted({*self._own(), *self._foreign()}))

    def get(self, name: str) -> Any:
        """The plug-in's symbol, importing its module.

        Raises:
            UnknownNameError: no plug-in has that name; the message lists those there are.
            EnvironmentUnfitError: the plug-in needs a package that is not installed (the message has the pip line), or cannot
                be imported (the message has the distribution it belongs to, and the reason).
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
                    f"{self._kind} {name!r} needs the package {missing!r}, which is not installed: {pip_line(missing)}"
                ) from error
        foreign = self._foreign()
        if name in foreign:
            return self._load(foreign[name])
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownNameError(f"no {self._kind} is called {name!r}; there are {', '.join(self.names())}.{hint}")

    def loadable(self) -> dict[str, Any]:
        """Every plug-in by name, but for those of other distributions that cannot be loaded: `vla doctor` names these."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except EnvironmentUnfitError:
                if name in self._own():
                    raise
        return found

    def third_party_names(self) -> tuple[str, ...]:
        """Names of plug-ins that other distributions add, sorted."""
        return tuple(sorted(set(self._foreign()) - self._own()))

    def build(self, name: str, options: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """`get(name)(**options, **given)`.

        Options come from recipes and files of others. On every shelf a whole number is at least 1 and any other number at least
        0, unless its default is less.

        Raises:
            UsageError: an option that the constructor does not have, with those it has; or a value that is none for it.
        """
        factory = self.get(name)
        accepted = inspect.signature(factory).parameters
        for key, value in (options or {}).items():
            if key not in accepted:
                known = ", ".join(k for k in accepted if k not in given) or "none"
                raise UsageError(f"{self._kind} {name!r} has no option {key!r}; it has: {known}")
            if wanted := _unfit(accepted[key], value):
                raise UsageError(f"{self._kind} {name!r}: its option {key} is {wanted}, not {value!r}")
        return factory(**{**(options or {}), **given})

    def _load(self, entry: EntryPoint) -> Any:
        try:
            plugin = entry.load()
            if not callable(plugin):
                raise TypeError(f"{entry.value} is no class and no function")
        except Exception as error:  # whatever the code of others does when it is imported
            owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "another distribution"
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
            way = (
                pip_line(missing)
                if missing
                else f"pip install --upgrade {entry.dist.name}"
                if entry.dist
                else "remove it"
            )
            raise EnvironmentUnfitError(
                f"{self._kind} {entry.name!r} of {owner} cannot be loaded ({reason}). Try: {way}"
            ) from error
        return plugin

    @property
    def _kind(self) -> str:
        return self.package.rsplit(".", 1)[-1].rstrip("s").replace("indexe", "index").replace("losse", "loss")

    def _own(self) -> frozenset[str]:
        spec = find_spec(self.package)
        if spec is None or spec.submodule_search_locations is None:
            return frozenset()
        modules = pkgutil.iter_modules(spec.submodule_search_locations)
        return frozenset(m.name for m in modules if not m.name.startswith("_") and m.name != "base")

    def _foreign(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=self.package)}


def registries() -> tuple[Registry, ...]:
    """The registry of every shelf."""
    return tuple(import_module(f"vla.{shelf}").registry for shelf in SHELVES)


def pip_line(module: str) -> str:
    """The command that installs the package with the top-level module `module`."""
    return f"pip install {_PIP_NAME.get(module, module)}"


def _unfit(option: inspect.Parameter, value: Any) -> str:
    """What `value` should have been for `option`; empty where it fits, or where its annotation is none of the plain types."""
    kind = option.annotation if isinstance(option.annotation, str) else getattr(option.annotation, "__name__", "")
    if kind in ("str", "bool"):
        wanted = {"str": "a text", "bool": "true or false"}[kind]
        return "" if isinstance(value, {"str": str, "bool": bool}[kind]) else wanted
    if kind not in ("int", "float"):
        return ""
    default = option.default if isinstance(option.default, int | float) else 1
    least = min(default, 1 if kind == "int" else 0)
    wanted = f"a {'whole ' if kind == 'int' else ''}number" + (f" of at least {least}" if default >= 0 else "")
    is_number = isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
    return "" if is_number and math.isfinite(value) and (value >= least or default < 0) else wanted
