"""open_clip without torch's compiler, which two of its own imports load for what nothing here calls: seconds of every search."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch

from vla.errors import EnvironmentUnfitError

_COMPILER = "torch._dynamo"
_TOOLS = "torch._dynamo.utils"


def import_open_clip() -> Any:
    """The module; raises EnvironmentUnfitError where torch and torchvision do not fit each other."""
    try:
        with _compiler_later():
            import open_clip
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        raise EnvironmentUnfitError(
            f"torch {torch.__version__} and the installed torchvision come from different builds and cannot work together "
            "(operator torchvision::nms does not exist). Install both from one place: for the CPU build, "
            "'pip install --force-reinstall torch torchvision --index-url' with PyTorch's CPU index; for the plain build, "
            "'pip install --force-reinstall torch torchvision'"
        ) from error
    return open_clip


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
