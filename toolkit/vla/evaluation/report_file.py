"""Evaluation report files, stored in the folder of the run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from vla.evaluation.results import MetricResult, drop_computed_keys
from vla.hints import Hint
from vla.storage import atomic, records
from vla.storage.records import LATE, Count

SCHEMA = 1
PREFIX = "eval-"
RERUN_HINT = Hint("evaluate_again")


@dataclass(frozen=True)
class EvaluationReport:
    """Result of an evaluation.

    Attributes:
        run: name of the run; empty for the frozen encoder.
        digest: of its weights; empty for the frozen encoder.
        fingerprint: of the feature space.
        captions: file of annotations; empty for those of the workspace.
        split: of the annotations; empty for all.
        counts: `videos` searched, `captions` and `questions` about them, `left out` (annotated
            videos without features), `trained on` (searched videos that the run was trained on).
        floors_from: source of the annotations that baselines are fitted to; empty without any.
        figures: metrics, in display order.
        notes: notes for the user.
        seed: of the bootstrap.
        compared: description of the query bank of the search; empty without a search.
        omissions: omitted annotations, as of `Omissions.to_json`; not read back.
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
        """Return the metrics of each task."""
        by_task: dict[str, list[MetricResult]] = {}
        for figure in self.figures:
            by_task.setdefault(figure.task, []).append(figure)
        return by_task

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object of all fields and the schema version."""
        return {
            "schema": SCHEMA,
            **vars(self),
            "figures": [figure.to_json() for figure in self.figures],
        }

    @classmethod
    def from_json(cls, record: Any, source: str, *, strict: bool = False) -> EvaluationReport:
        """Read the report that `to_json` wrote.

        Raises:
            CacheError: it is damaged, or was written by a newer version.
        """
        figures = record.get("figures") if isinstance(record, dict) else None
        if isinstance(figures, list):
            record = {**record, "figures": [drop_computed_keys(figure) for figure in figures]}
        return records.decode(
            _StoredReport, record, source, RERUN_HINT, schema=SCHEMA, strict=strict
        ).report()


@dataclass(frozen=True)
class _StoredReport(EvaluationReport):
    """A report with its schema version."""

    schema: int = SCHEMA

    def report(self) -> EvaluationReport:
        return EvaluationReport(**{f.name: getattr(self, f.name) for f in fields(EvaluationReport)})


def save(folder: Path, report: EvaluationReport, qualifier: str = "") -> Path:
    """Write a report to the folder of its run; replace an earlier one of the same evaluation.

    Args:
        folder: of the run.
        report: the report.
        qualifier: further identification of an evaluation with the same captions and split.
    """
    stem = Path(report.captions).stem if report.captions else "workspace"
    slug = re.sub(
        r"[^A-Za-z0-9_-]+", "-", f"{stem}-{report.split}" if report.split else stem
    ).strip("-")[:60]
    # Two caption files of the same name, or two selections of tasks, are different evaluations.
    digest = atomic.sha256(
        "\0".join((report.captions, report.split, qualifier)).encode("utf-8", "surrogatepass")
    )
    path = folder / f"{PREFIX}{slug}-{digest[:8]}.json"
    atomic.write_json(path, report.to_json())
    return path


def load(folder: Path) -> list[EvaluationReport]:
    """Return every report of a run, by file name; raises CacheError if one is damaged."""
    return [load_file(path) for path in report_files(folder)]


def report_files(folder: Path) -> list[Path]:
    """Return the report files of a run."""
    return [path for path in atomic.list_files(folder) if path.name.startswith(PREFIX)]


def load_file(path: Path) -> EvaluationReport:
    """Return the report at `path`; raises CacheError if it is damaged."""
    record = atomic.read_record(path, RERUN_HINT)
    return EvaluationReport.from_json(record.value, str(path), strict=not record.has_checksum)
