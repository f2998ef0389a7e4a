"""open_clip without torch's compiler, which two of its own imports load for what nothing here calls: seconds of every search."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from types import FunctionType, ModuleType
from typing import Any

import torch

from vla.errors import EnvironmentUnfitError

_COMPILER = "torch._dynamo"
_TOOLS = "torch._dynamo.utils"


def import_open_clip() -> Any:
    """The module; raises EnvironmentUnfitError where it, torch and torchvision cannot be imported together."""
    try:
        with _compiler_later():
            import open_clip
    except (RuntimeError, OSError, ImportError, AttributeError) as error:
        raise EnvironmentUnfitError(_misfit(str(error).strip().partition("\n")[0])) from error
    return open_clip


def _misfit(reason: str) -> str:
    """Name the versions that belong together: torchvision 0.N is built for torch 2.(N - 15)."""
    torch_is, vision_is = torch.__version__, "none"
    with suppress(PackageNotFoundError):
        vision_is = version("torchvision")
    release, _, build = torch_is.partition("+")
    major, minor = ([*release.split("."), "0"])[:2]
    pair = f"torch=={release}"
    pair += f" 'torchvision==0.{int(minor) + 15}.*'" if major == "2" and minor.isdigit() else " torchvision"
    place = " from PyTorch's CPU index, as the selector on pytorch.org says" if build == "cpu" else ""
    return (
        f"torch {torch_is}, torchvision {vision_is} and open_clip cannot be imported together ({reason}). torch and torchvision "
        f"must be of one build: install both in one command{place}: pip install --force-reinstall {pair}"
    )


@contextmanager
def _compiler_later() -> Iterator[None]:
    """While this is held, two things that load the compiler wait for their first call.

    torchvision's `ops` take `is_compile_supported` from the compiler's tools, and timm marks functions by
    `torch.compiler.disable`, which matters once something is compiled. Both do what they did as soon as the compiler is there.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_in, disable = _tools(), torch.compiler.disable
    sys.modules[_TOOLS] = stand_in
    torch.compiler.disable = _disabling(disable)
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_TOOLS) is stand_in:
            del sys.modules[_TOOLS]


def _tools() -> ModuleType:
    """A module that has one function, and finds all else in the real one."""
    stand_in = ModuleType(_TOOLS)

    def real_one(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_TOOLS) is stand_in:
            del sys.modules[_TOOLS]
        from torch._dynamo import utils

        return getattr(utils, name)

    def is_compile_supported(device_type: str) -> bool:
        return bool(real_one("is_compile_supported")(device_type))

    stand_in.is_compile_supported = is_compile_supported  # type: ignore[attr-defined]
    stand_in.__getattr__ = real_one  # type: ignore[method-assign]
    return stand_in


def _disabling(disable: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable`, for functions at their first call after the compiler was loaded."""

    def later(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
        if fn is None:
            return functools.partial(later, recursive=recursive, reason=reason)
        if not isinstance(fn, FunctionType):
            return disable(fn, recursive, reason=reason)

        @functools.wraps(fn)
        def called(*given: Any, **named: Any) -> Any:
            if _COMPILER not in sys.modules:
                return fn(*given, **named)
            return disable(fn, recursive, reason=reason)(*given, **named)

        return called

    return later
