"""Video-language alignment: cache frozen features once, train small projectors on them, search videos for moments.

`import vla` loads neither torch nor numpy: every public name is imported when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla.api import ask as ask
    from vla.api import demo as demo
    from vla.api import evaluate as evaluate
    from vla.api import export as export
    from vla.api import extract as extract
    from vla.api import import_features as import_features
    from vla.api import index as index
    from vla.api import open_workspace as open_workspace
    from vla.api import report as report
    from vla.api import search as search
    from vla.api import train as train
    from vla.errors import VlaError as VlaError
    from vla.features import FeatureSpec as FeatureSpec
    from vla.features import FrameFeatures as FrameFeatures
    from vla.features import TextFeatures as TextFeatures
    from vla.registry import Registry as Registry
    from vla.search.asked import Query as Query
    from vla.search.hits import Hit as Hit
    from vla.search.hits import Hits as Hits
    from vla.search.limits import Condition as Condition
    from vla.search.limits import Limits as Limits
    from vla.stages.annotations import import_annotations as import_annotations
    from vla.video import Frames as Frames
    from vla.video import Video as Video
    from vla.workspace import Workspace as Workspace

__version__ = "0.1.0"

_HOME = {
    "ask": "vla.api",
    "demo": "vla.api",
    "evaluate": "vla.api",
    "export": "vla.api",
    "extract": "vla.api",
    "import_features": "vla.api",
    "index": "vla.api",
    "open_workspace": "vla.api",
    "report": "vla.api",
    "search": "vla.api",
    "train": "vla.api",
    "VlaError": "vla.errors",
    "FeatureSpec": "vla.features",
    "FrameFeatures": "vla.features",
    "TextFeatures": "vla.features",
    "Registry": "vla.registry",
    "Query": "vla.search.asked",
    "Hit": "vla.search.hits",
    "Hits": "vla.search.hits",
    "Condition": "vla.search.limits",
    "Limits": "vla.search.limits",
    "import_annotations": "vla.stages.annotations",
    "Frames": "vla.video",
    "Video": "vla.video",
    "Workspace": "vla.workspace",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'vla' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Verb(ModuleType):
    """A package that is called like the function of its name: `vla.search("a dog")` and `vla.search.query`."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return getattr(import_module("vla.api"), self.__name__.rpartition(".")[2])(*given, **named)


class _Facade(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # Importing `vla.search.query` binds the package `vla.search` here and would hide the function of that name.
        if name in _HOME and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade
