"""Every verb of the library in one place: what the command line can do, these can.

Importing this module loads torch; `import vla` does not, and has the same names.
"""

from vla.cache.build import ExtractReport
from vla.demo import demo
from vla.evaluate.kept import Evaluated
from vla.search.asked import NOT_WEIGHT, Query
from vla.search.hits import Hit, Hits
from vla.search.limits import Condition, Limits
from vla.stages.annotations import ImportReport, formats, import_annotations
from vla.stages.asking import Reply, ask
from vla.stages.doctor import doctor
from vla.stages.encoder import DEFAULT_SAMPLING, EncoderChoice
from vla.stages.estimate import Estimate, estimate
from vla.stages.evaluating import evaluate
from vla.stages.exporting import RAW, ExportReport, export
from vla.stages.extraction import extract
from vla.stages.importing import ImportFeaturesReport, import_features
from vla.stages.indexing import IndexReport, index
from vla.stages.reporting import report
from vla.stages.searching import OpenWorkspace, open_workspace, search
from vla.stages.training import DEFAULT_RUN, train
from vla.stages.upkeep import collect, info, list_videos, remove, verify
from vla.train.checkpoint import FROZEN, Run
from vla.workspace import Workspace

__all__ = [
    "DEFAULT_RUN",
    "DEFAULT_SAMPLING",
    "FROZEN",
    "NOT_WEIGHT",
    "RAW",
    "Condition",
    "EncoderChoice",
    "Estimate",
    "Evaluated",
    "ExportReport",
    "ExtractReport",
    "Hit",
    "Hits",
    "ImportFeaturesReport",
    "ImportReport",
    "IndexReport",
    "Limits",
    "OpenWorkspace",
    "Query",
    "Reply",
    "Run",
    "Workspace",
    "ask",
    "collect",
    "demo",
    "doctor",
    "estimate",
    "evaluate",
    "export",
    "extract",
    "formats",
    "import_annotations",
    "import_features",
    "index",
    "info",
    "list_videos",
    "open_workspace",
    "remove",
    "report",
    "search",
    "train",
    "verify",
]
