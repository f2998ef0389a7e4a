"""Video-language alignment: cache frozen features once, train small projectors on them, search videos for moments.

`import vla` loads neither torch nor numpy: every public name is imported when it is first used.
"""

import sys
from importlib import import_module
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vla.api import DEFAULT_RUN as DEFAULT_RUN
    from vla.api import DEFAULT_SAMPLING as DEFAULT_SAMPLING
    from vla.api import FROZEN as FROZEN
    from vla.api import NOT_WEIGHT as NOT_WEIGHT
    from vla.api import RAW as RAW
    from vla.api import Annotation as Annotation
    from vla.api import CaptionEntry as CaptionEntry
    from vla.api import CaptionSource as CaptionSource
    from vla.api import Check as Check
    from vla.api import Condition as Condition
    from vla.api import Coverage as Coverage
    from vla.api import Damage as Damage
    from vla.api import DemoReport as DemoReport
    from vla.api import EncoderChoice as EncoderChoice
    from vla.api import Entry as Entry
    from vla.api import Estimate as Estimate
    from vla.api import Evaluated as Evaluated
    from vla.api import Example as Example
    from vla.api import ExportReport as ExportReport
    from vla.api import ExtractReport as ExtractReport
    from vla.api import FeatureSpec as FeatureSpec
    from vla.api import Figure as Figure
    from vla.api import Hit as Hit
    from vla.api import Hits as Hits
    from vla.api import ImportFeaturesReport as ImportFeaturesReport
    from vla.api import ImportReport as ImportReport
    from vla.api import IndexReport as IndexReport
    from vla.api import Limits as Limits
    from vla.api import ModelConfig as ModelConfig
    from vla.api import OpenWorkspace as OpenWorkspace
    from vla.api import PathLike as PathLike
    from vla.api import Paths as Paths
    from vla.api import Progress as Progress
    from vla.api import ProgressCallback as ProgressCallback
    from vla.api import Query as Query
    from vla.api import Receipt as Receipt
    from vla.api import Reply as Reply
    from vla.api import Run as Run
    from vla.api import Texts as Texts
    from vla.api import TrainConfig as TrainConfig
    from vla.api import VideoFeatures as VideoFeatures
    from vla.api import Weighted as Weighted
    from vla.api import Workspace as Workspace
    from vla.api import ask as ask
    from vla.api import captions_of as captions_of
    from vla.api import collect as collect
    from vla.api import demo as demo
    from vla.api import doctor as doctor
    from vla.api import estimate as estimate
    from vla.api import evaluate as evaluate
    from vla.api import export as export
    from vla.api import extract as extract
    from vla.api import formats as formats
    from vla.api import import_annotations as import_annotations
    from vla.api import import_features as import_features
    from vla.api import index as index
    from vla.api import info as info
    from vla.api import list_captions as list_captions
    from vla.api import list_videos as list_videos
    from vla.api import open_workspace as open_workspace
    from vla.api import remove as remove
    from vla.api import remove_captions as remove_captions
    from vla.api import report as report
    from vla.api import search as search
    from vla.api import train as train
    from vla.api import verify as verify
    from vla.errors import VlaError as VlaError
    from vla.features import FrameFeatures as FrameFeatures
    from vla.features import TextFeatures as TextFeatures
    from vla.registry import Registry as Registry
    from vla.video import Frames as Frames
    from vla.video import Video as Video

__version__ = "0.1.0"

_HOME = {
    "Annotation": "vla.api",
    "CaptionEntry": "vla.api",
    "CaptionSource": "vla.api",
    "Check": "vla.api",
    "Condition": "vla.api",
    "Coverage": "vla.api",
    "DEFAULT_RUN": "vla.api",
    "DEFAULT_SAMPLING": "vla.api",
    "Damage": "vla.api",
    "DemoReport": "vla.api",
    "EncoderChoice": "vla.api",
    "Entry": "vla.api",
    "Estimate": "vla.api",
    "Evaluated": "vla.api",
    "Example": "vla.api",
    "ExportReport": "vla.api",
    "ExtractReport": "vla.api",
    "FROZEN": "vla.api",
    "FeatureSpec": "vla.api",
    "Figure": "vla.api",
    "FrameFeatures": "vla.features",
    "Frames": "vla.video",
    "Hit": "vla.api",
    "Hits": "vla.api",
    "ImportFeaturesReport": "vla.api",
    "ImportReport": "vla.api",
    "IndexReport": "vla.api",
    "Limits": "vla.api",
    "ModelConfig": "vla.api",
    "NOT_WEIGHT": "vla.api",
    "OpenWorkspace": "vla.api",
    "PathLike": "vla.api",
    "Paths": "vla.api",
    "Progress": "vla.api",
    "ProgressCallback": "vla.api",
    "Query": "vla.api",
    "RAW": "vla.api",
    "Receipt": "vla.api",
    "Registry": "vla.registry",
    "Reply": "vla.api",
    "Run": "vla.api",
    "TextFeatures": "vla.features",
    "Texts": "vla.api",
    "TrainConfig": "vla.api",
    "Video": "vla.video",
    "VideoFeatures": "vla.api",
    "VlaError": "vla.errors",
    "Weighted": "vla.api",
    "Workspace": "vla.api",
    "ask": "vla.api",
    "captions_of": "vla.api",
    "collect": "vla.api",
    "demo": "vla.api",
    "doctor": "vla.api",
    "estimate": "vla.api",
    "evaluate": "vla.api",
    "export": "vla.api",
    "extract": "vla.api",
    "formats": "vla.api",
    "import_annotations": "vla.api",
    "import_features": "vla.api",
    "index": "vla.api",
    "info": "vla.api",
    "list_captions": "vla.api",
    "list_videos": "vla.api",
    "open_workspace": "vla.api",
    "remove": "vla.api",
    "remove_captions": "vla.api",
    "report": "vla.api",
    "search": "vla.api",
    "train": "vla.api",
    "verify": "vla.api",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'vla' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    package = sys.modules.get(f"vla.{name}")
    if package is not None:
        _share(package, value)
    return value


def __dir__() -> list[str]:
    return __all__


class _Facade(ModuleType):
    """`vla.search` is the function, also where the package `vla.search` was imported, which would bind that name to itself."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)
            return
        value.__class__ = _Package
        if name in globals():
            _share(value, globals()[name])


class _Package(ModuleType):
    """A package with the name of a function. Its modules are attributes of the function, so `vla.search.query` is the module."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        short = self.__name__.rpartition(".")[2]
        if short in globals():
            _share(self, globals()[short])


def _share(package: ModuleType, function: object) -> None:
    if isinstance(function, FunctionType):
        inner = {k: v for k, v in vars(package).items() if isinstance(v, ModuleType)}
        vars(function).update(inner)


sys.modules[__name__].__class__ = _Facade
