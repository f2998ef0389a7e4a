"""Video-language alignment: cache frozen features once, train small projectors on them, search videos for moments.

`import vla` loads neither torch nor numpy: a public name is imported when it is first used. `__init__.pyi` lists them.
"""

import re
from importlib import import_module
from pathlib import Path
from types import FunctionType

__version__ = "0.1.0"

_STUB = Path(__file__).with_suffix(".pyi").read_text("utf-8")
_MODULES = {
    name: module for module, name in re.findall(r"^from (\S+) import (\w+) as", _STUB, re.MULTILINE)
}

_SETTINGS = {
    "estimate": "EncoderChoice",
    "extract": "EncoderChoice",
    "search": "EncoderChoice",
    "train": "TrainConfig",
}
"""Dataclasses whose fields are keyword arguments of a function as well."""

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(
            f"module 'vla' has no attribute {name!r}; it has {', '.join(sorted(_MODULES))}"
        )
    value = getattr(import_module(_MODULES[name]), name)
    if isinstance(value, FunctionType):
        from vla.arguments import validate_arguments

        settings = __getattr__(_SETTINGS[name]) if name in _SETTINGS else None
        value = validate_arguments(value, settings if isinstance(settings, type) else None)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
