"""Every verb of the library in one place: what the command line can do, these can.

Importing this module loads next to nothing: each name is imported when it is first used, so that a search loads no training.
"""

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING

from vla.public import public

if TYPE_CHECKING:
    from vla.cache.build import ExtractReport as ExtractReport
    from vla.cache.captions import CaptionEntry as CaptionEntry
    from vla.cache.receipts import Receipt as Receipt
    from vla.cache.upkeep import Damage as Damage
    from vla.datasets.base import Annotation as Annotation
    from vla.demo import DemoReport as DemoReport
    from vla.demo import Example as Example
    from vla.demo import demo as demo
    from vla.evaluate.figures import Figure as Figure
    from vla.evaluate.kept import Evaluated as Evaluated
    from vla.features import FeatureSpec as FeatureSpec
    from vla.model import ModelConfig as ModelConfig
    from vla.progress import Progress as Progress
    from vla.progress import ProgressCallback as ProgressCallback
    from vla.public import PathLike as PathLike
    from vla.public import Paths as Paths
    from vla.public import Texts as Texts
    from vla.reports.run_report import report as report
    from vla.search.asked import NOT_WEIGHT as NOT_WEIGHT
    from vla.search.asked import Query as Query
    from vla.search.asked import Weighted as Weighted
    from vla.search.hits import Hit as Hit
    from vla.search.hits import Hits as Hits
    from vla.search.limits import Condition as Condition
    from vla.search.limits import Limits as Limits
    from vla.stages.annotations import Coverage as Coverage
    from vla.stages.annotations import ImportReport as ImportReport
    from vla.stages.annotations import formats as formats
    from vla.stages.annotations import import_annotations as import_annotations
    from vla.stages.asking import Reply as Reply
    from vla.stages.asking import ask as ask
    from vla.stages.doctor import Check as Check
    from vla.stages.doctor import doctor as doctor
    from vla.stages.encoder import DEFAULT_SAMPLING as DEFAULT_SAMPLING
    from vla.stages.encoder import EncoderChoice as EncoderChoice
    from vla.stages.estimate import Estimate as Estimate
    from vla.stages.estimate import estimate as estimate
    from vla.stages.evaluating import evaluate as evaluate
    from vla.stages.exporting import RAW as RAW
    from vla.stages.exporting import ExportReport as ExportReport
    from vla.stages.exporting import export as export
    from vla.stages.extraction import extract as extract
    from vla.stages.importing import ImportFeaturesReport as ImportFeaturesReport
    from vla.stages.importing import import_features as import_features
    from vla.stages.indexing import IndexReport as IndexReport
    from vla.stages.indexing import index as index
    from vla.stages.opened import VideoFeatures as VideoFeatures
    from vla.stages.searching import OpenWorkspace as OpenWorkspace
    from vla.stages.searching import open_workspace as open_workspace
    from vla.stages.searching import search as search
    from vla.stages.sources import CaptionSource as CaptionSource
    from vla.stages.sources import captions_of as captions_of
    from vla.stages.sources import list_captions as list_captions
    from vla.stages.sources import remove_captions as remove_captions
    from vla.stages.training import DEFAULT_RUN as DEFAULT_RUN
    from vla.stages.training import train as train
    from vla.stages.upkeep import Entry as Entry
    from vla.stages.upkeep import collect as collect
    from vla.stages.upkeep import info as info
    from vla.stages.upkeep import list_videos as list_videos
    from vla.stages.upkeep import remove as remove
    from vla.stages.verifying import verify as verify
    from vla.train.checkpoint import FROZEN as FROZEN
    from vla.train.checkpoint import Run as Run
    from vla.train.config import TrainConfig as TrainConfig
    from vla.workspace import Workspace as Workspace

_HOME = {
    "Annotation": "vla.datasets.base",
    "CaptionEntry": "vla.cache.captions",
    "CaptionSource": "vla.stages.sources",
    "Check": "vla.stages.doctor",
    "Condition": "vla.search.limits",
    "Coverage": "vla.stages.annotations",
    "DEFAULT_RUN": "vla.stages.training",
    "DEFAULT_SAMPLING": "vla.stages.encoder",
    "Damage": "vla.cache.upkeep",
    "DemoReport": "vla.demo",
    "EncoderChoice": "vla.stages.encoder",
    "Entry": "vla.stages.upkeep",
    "Estimate": "vla.stages.estimate",
    "Evaluated": "vla.evaluate.kept",
    "Example": "vla.demo",
    "ExportReport": "vla.stages.exporting",
    "ExtractReport": "vla.cache.build",
    "FROZEN": "vla.train.checkpoint",
    "FeatureSpec": "vla.features",
    "Figure": "vla.evaluate.figures",
    "Hit": "vla.search.hits",
    "Hits": "vla.search.hits",
    "ImportFeaturesReport": "vla.stages.importing",
    "ImportReport": "vla.stages.annotations",
    "IndexReport": "vla.stages.indexing",
    "Limits": "vla.search.limits",
    "ModelConfig": "vla.model",
    "NOT_WEIGHT": "vla.search.asked",
    "OpenWorkspace": "vla.stages.searching",
    "PathLike": "vla.public",
    "Paths": "vla.public",
    "Progress": "vla.progress",
    "ProgressCallback": "vla.progress",
    "Query": "vla.search.asked",
    "RAW": "vla.stages.exporting",
    "Receipt": "vla.cache.receipts",
    "Reply": "vla.stages.asking",
    "Run": "vla.train.checkpoint",
    "Texts": "vla.public",
    "TrainConfig": "vla.train.config",
    "VideoFeatures": "vla.stages.opened",
    "Weighted": "vla.search.asked",
    "Workspace": "vla.workspace",
    "ask": "vla.stages.asking",
    "captions_of": "vla.stages.sources",
    "collect": "vla.stages.upkeep",
    "demo": "vla.demo",
    "doctor": "vla.stages.doctor",
    "estimate": "vla.stages.estimate",
    "evaluate": "vla.stages.evaluating",
    "export": "vla.stages.exporting",
    "extract": "vla.stages.extraction",
    "formats": "vla.stages.annotations",
    "import_annotations": "vla.stages.annotations",
    "import_features": "vla.stages.importing",
    "index": "vla.stages.indexing",
    "info": "vla.stages.upkeep",
    "list_captions": "vla.stages.sources",
    "list_videos": "vla.stages.upkeep",
    "open_workspace": "vla.stages.searching",
    "remove": "vla.stages.upkeep",
    "remove_captions": "vla.stages.sources",
    "report": "vla.reports.run_report",
    "search": "vla.stages.searching",
    "train": "vla.stages.training",
    "verify": "vla.stages.verifying",
}

_SETTINGS = {
    "estimate": "EncoderChoice",
    "extract": "EncoderChoice",
    "search": "EncoderChoice",
    "train": "TrainConfig",
}
"""Classes whose fields are keywords of a function, too."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'vla.api' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    value = getattr(import_module(_HOME[name]), name)
    if isinstance(value, FunctionType):
        settings = __getattr__(_SETTINGS[name]) if name in _SETTINGS else None
        value = public(value, settings if isinstance(settings, type) else None)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOME)
