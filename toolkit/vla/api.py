"""Every verb of the library in one place: what the command line can do, these can.

Importing this module loads next to nothing: each name is imported when it is first used, so that a search loads no training.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vla.cache.build import ExtractReport as ExtractReport
    from vla.demo import demo as demo
    from vla.evaluate.kept import Evaluated as Evaluated
    from vla.search.asked import NOT_WEIGHT as NOT_WEIGHT
    from vla.search.asked import Query as Query
    from vla.search.hits import Hit as Hit
    from vla.search.hits import Hits as Hits
    from vla.search.limits import Condition as Condition
    from vla.search.limits import Limits as Limits
    from vla.stages.annotations import ImportReport as ImportReport
    from vla.stages.annotations import formats as formats
    from vla.stages.annotations import import_annotations as import_annotations
    from vla.stages.asking import Reply as Reply
    from vla.stages.asking import ask as ask
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
    from vla.stages.reporting import report as report
    from vla.stages.searching import OpenWorkspace as OpenWorkspace
    from vla.stages.searching import open_workspace as open_workspace
    from vla.stages.searching import search as search
    from vla.stages.sources import CaptionSource as CaptionSource
    from vla.stages.sources import captions_of as captions_of
    from vla.stages.sources import list_captions as list_captions
    from vla.stages.sources import remove_captions as remove_captions
    from vla.stages.training import DEFAULT_RUN as DEFAULT_RUN
    from vla.stages.training import train as train
    from vla.stages.upkeep import collect as collect
    from vla.stages.upkeep import info as info
    from vla.stages.upkeep import list_videos as list_videos
    from vla.stages.upkeep import remove as remove
    from vla.stages.verifying import verify as verify
    from vla.train.checkpoint import FROZEN as FROZEN
    from vla.train.checkpoint import Run as Run
    from vla.workspace import Workspace as Workspace

_HOME = {
    "CaptionSource": "vla.stages.sources",
    "Condition": "vla.search.limits",
    "DEFAULT_RUN": "vla.stages.training",
    "DEFAULT_SAMPLING": "vla.stages.encoder",
    "EncoderChoice": "vla.stages.encoder",
    "Estimate": "vla.stages.estimate",
    "Evaluated": "vla.evaluate.kept",
    "ExportReport": "vla.stages.exporting",
    "ExtractReport": "vla.cache.build",
    "FROZEN": "vla.train.checkpoint",
    "Hit": "vla.search.hits",
    "Hits": "vla.search.hits",
    "ImportFeaturesReport": "vla.stages.importing",
    "ImportReport": "vla.stages.annotations",
    "IndexReport": "vla.stages.indexing",
    "Limits": "vla.search.limits",
    "NOT_WEIGHT": "vla.search.asked",
    "OpenWorkspace": "vla.stages.searching",
    "Query": "vla.search.asked",
    "RAW": "vla.stages.exporting",
    "Reply": "vla.stages.asking",
    "Run": "vla.train.checkpoint",
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
    "report": "vla.stages.reporting",
    "search": "vla.stages.searching",
    "train": "vla.stages.training",
    "verify": "vla.stages.verifying",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'vla.api' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOME)
