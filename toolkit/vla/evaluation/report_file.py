"""An evaluation as it is kept beside its run, and read again."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from vla.evaluation.results import MetricResult, without_derived
from vla.hints import Hint
from vla.storage import atomic, records
from vla.storage.records import LATE, Count

SCHEMA = 1
PREFIX = "eval-"
WAY_ON = Hint("evaluate_again")


@dataclass(frozen=True)
class EvaluationReport:
    """What was measured, on what.

    Attributes:
        run: its name; empty for the frozen encoder.
        digest: of its weights; empty for the frozen encoder.
        fingerprint: of the feature space.
        captions: the file of annotations; empty for those that the workspace knows.
        split: of them; empty for all.
        counts: `videos` searched, `captions` and `questions` about them, `left out` (annotated videos that are not cached),
            `trained on` (videos of those searched).
        floors_from: which annotations floors were fitted to; empty where there were none.
        figures: in the order in which they are to be read.
        notes: what a person should know.
        seed: of the bootstrap.
        compared: with which queries the index was compared that figures `by search` are of; empty where nothing was searched.
        omissions: what was left out of the annotations, as `Omissions.to_json` has it; not read back.
    """

    run: str
    digest: str
    fingerprint: str
    captions: str
    split: str
    counts: dict[str, Count]
    floors_from: str
    figures: list[MetricResult]
    notes: list[str] = field(default_factory=list)
    seed: int = 0
    compared: Annotated[str, LATE] = ""
    omissions: Annotated[list[dict[str, Any]], LATE] = field(default_factory=list, compare=False)

    @property
    def by_task(self) -> dict[str, list[MetricResult]]:
        """The figures of each task."""
        found: dict[str, list[MetricResult]] = {}
        for figure in self.figures:
            found.setdefault(figure.task, []).append(figure)
        return found

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields and the version of their form."""
        return {"schema": SCHEMA, **vars(self), "figures": [figure.to_json() for figure in self.figures]}

    @classmethod
    def from_json(cls, record: Any, source: str, *, strict: bool = False) -> EvaluationReport:
        """The evaluation that `to_json` wrote.

        Raises:
            CacheError: it is damaged, or a newer vla wrote it.
        """
        figures = record.get("figures") if isinstance(record, dict) else None
        if isinstance(figures, list):
            record = {**record, "figures": [without_derived(figure) for figure in figures]}
        return records.decode(_Kept, record, source, WAY_ON, schema=SCHEMA, strict=strict).evaluated()


@dataclass(frozen=True)
class _Kept(EvaluationReport):
    """An evaluation with the version of its form."""

    schema: int = SCHEMA

    def evaluated(self) -> EvaluationReport:
        return EvaluationReport(**{f.name: getattr(self, f.name) for f in fields(EvaluationReport)})


def save(folder: Path, evaluated: EvaluationReport, told: str = "") -> Path:
    """Put `evaluated` into the folder of its run; what was measured there on the same before is replaced.

    Args:
        folder: of the run.
        evaluated: what to keep.
        told: what else tells it from others on the same captions.
    """
    stem = Path(evaluated.captions).stem if evaluated.captions else "workspace"
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{stem}-{evaluated.split}" if evaluated.split else stem).strip("-")[:60]
    # Two files of one name, or two choices of tasks, are two evaluations.
    digest = atomic.sha256("\0".join((evaluated.captions, evaluated.split, told)).encode("utf-8", "surrogatepass"))
    path = folder / f"{PREFIX}{safe}-{digest[:8]}.json"
    atomic.write_json(path, evaluated.to_json())
    return path


def load(folder: Path) -> list[EvaluationReport]:
    """Every evaluation in the folder of a run, by name of its file; raises CacheError for one that is damaged."""
    return [opened(path) for path in files(folder)]


def files(folder: Path) -> list[Path]:
    """The files of the evaluations in the folder of a run."""
    return [path for path in atomic.list_files(folder) if path.name.startswith(PREFIX)]


def opened(path: Path) -> EvaluationReport:
    """The evaluation at `path`; raises CacheError if it is damaged."""
    stored = atomic.read_record(path, WAY_ON)
    return EvaluationReport.from_json(stored.value, str(path), strict=not stored.has_checksum)
