"""`import_annotations`: convert annotation files of any supported format to one JSONL file."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from vla.cache.discovery import find_videos
from vla.cache.store import active_cache
from vla.datasets import registry
from vla.datasets._open import read_files
from vla.datasets._reading import InvalidRowsError
from vla.datasets.base import Annotation, Dataset, paragraphs
from vla.errors import AnnotationError, CacheError, EnvironmentUnfitError, MissingError, UsageError
from vla.hints import Hint
from vla.naming.matching import NameMatcher
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class Coverage:
    """Match between the video names in annotations and the available videos.

    Attributes:
        where: the folder or workspace with the videos.
        there: number of names that match a video.
        missing: names without a video.
        ambiguous: names that match several videos.
    """

    where: str
    there: int
    missing: list[str]
    ambiguous: list[str]


@dataclass
class ImportReport:
    """Result of an import.

    Attributes:
        format: name of the reader.
        annotations: all annotations, in the order of the files.
        output: the file that was written; None if there is none.
        left_out: number of invalid rows.
        omissions: counts of other skipped content, by reason.
        coverage: None if there are no videos to compare with.
    """

    format: str
    annotations: list[Annotation]
    output: Path | None = None
    left_out: int = 0
    coverage: Coverage | None = None
    omissions: Omissions = field(default_factory=Omissions)

    def summary(self) -> dict[str, Any]:
        """Return statistics of the annotations as a JSON object; times in seconds."""
        annotations = self.annotations
        spans = [(start, end, a.duration) for a in annotations for start, end in a.spans]
        lengths = sorted(end - start for start, end, _ in spans)
        kinds = Counter(
            "caption" if a.question is None else f"{a.question.kind} question" for a in annotations
        )
        summary: dict[str, Any] = {
            "format": self.format,
            "annotations": len(annotations),
            "videos": len({a.video for a in annotations}),
            "left_out": self.left_out,
            "omissions": self.omissions.to_json(),
            "kinds": dict(kinds),
            "splits": {
                split: {
                    "annotations": count,
                    "videos": len({a.video for a in annotations if a.split == split}),
                }
                for split, count in Counter(a.split for a in annotations).items()
            },
            "categories": dict(
                sorted(Counter(a.category for a in annotations if a.category).items())
            ),
            "paragraphs": len({(a.video, a.paragraph) for a in annotations if a.paragraph}),
            "rated": sum(a.saliency is not None for a in annotations),
            "spans": None,
            "output": None if self.output is None else str(self.output),
            "coverage": None if self.coverage is None else vars(self.coverage),
        }
        if spans:
            summary["spans"] = {
                "annotations": sum(bool(a.spans) for a in annotations),
                "spans": len(spans),
                "with_several": sum(len(a.spans) > 1 for a in annotations),
                "shortest": lengths[0],
                "median": median(lengths),
                "longest": lengths[-1],
                "after_the_end": sum(
                    duration is not None and end > duration for _, end, duration in spans
                ),
            }
        return summary


def list_formats() -> dict[str, str]:
    """Return a description of the files of each reader, by name; for a broken plug-in, the reason."""
    return {name: _files(name) for name in registry.names()}


def _files(name: str) -> str:
    try:
        return str(getattr(registry.get(name), "files", ""))
    except EnvironmentUnfitError as error:
        return str(error)


def import_annotations(
    format: str,
    paths: Iterable[str | Path],
    *,
    output: Path | None = None,
    split: str = "",
    as_paragraphs: bool = False,
    skip_invalid: bool = False,
    videos: Path | None = None,
    workspace: Path | None = None,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
) -> ImportReport:
    """Read annotations in any supported format and optionally write them as one JSONL file.

    Args:
        format: name of the reader, one of `list_formats()`.
        paths: files to read; some formats consist of several files.
        output: JSONL file to write, one annotation per line; None writes nothing.
        split: keep only this split; annotations without a split are assigned to it. All splits if
            empty.
        as_paragraphs: replace the sentences of each paragraph by one annotation of the whole video.
        skip_invalid: skip invalid rows instead of rejecting their file.
        videos: folder of the videos, for `coverage`.
        workspace: workspace of the videos if `videos` is None; searched upwards from the current
            folder if None.
        overwrite: replace an existing `output`.
        progress: called with a warning about skipped rows.

    Raises:
        AnnotationError: a file cannot be read or is invalid; nothing was written.
        UsageError: `output` exists, or is one of the files; or `videos` is not a folder.
        UnknownNameError: no reader has this name.
    """
    files = [Path(path).expanduser() for path in paths]
    if output is not None:
        _check_output(output, files, overwrite)
    if videos is not None and not videos.is_dir():
        raise UsageError(f"no such folder of videos: {videos}")
    report = ImportReport(format, [], output)
    annotations = _read(
        cast(Dataset, registry.build(format)), files, skip_invalid, report, progress
    )
    if split:
        annotations = _select_split(annotations, split)
    if as_paragraphs:
        annotations = paragraphs(annotations)
        if not annotations:
            raise UsageError(f"{format} has no paragraphs: its annotations stand alone")
    report.annotations = annotations
    report.coverage = _coverage(annotations, files[0].parent, videos, workspace)
    for name in report.coverage.missing if report.coverage else ():
        report.omissions.add("no-such-video", name)
    for name in report.coverage.ambiguous if report.coverage else ():
        report.omissions.add("ambiguous-name", name)
    if output is not None:
        lines = [json.dumps(a.to_json()) + "\n" for a in annotations]
        atomic.write_bytes(output, "".join(lines).encode("ascii"))
    return report


def _check_output(output: Path, files: list[Path], overwrite: bool) -> None:
    # os.path also accepts invalid names; writing them fails later with its own message.
    if not os.path.exists(output):  # noqa: PTH110
        return
    if any(os.path.exists(path) and path.samefile(output) for path in files):  # noqa: PTH110
        raise UsageError(f"{output} is one of the files to be read: write somewhere else")
    if output.is_dir():
        raise UsageError(f"{output} is a folder: name a file in it")
    if not overwrite:
        raise UsageError(f"{output} is there already", hint=Hint("overwrite"))


def _read(
    dataset: Dataset,
    files: list[Path],
    skip_invalid: bool,
    report: ImportReport,
    progress: ProgressCallback,
) -> list[Annotation]:
    try:
        return read_files(dataset, files, report.omissions)
    except InvalidRowsError as error:
        if not error.valid:
            raise
        if not skip_invalid:
            raise AnnotationError(
                f"{error}\nThe {len(error.valid)} other rows are valid", hint=Hint("skip_invalid")
            ) from error
        report.left_out = error.faults
        report.omissions.add("row", count=error.faults)
        progress(Progress("import", message=f"left out what is faulty: {error}", level="warning"))
        return error.valid


def _select_split(annotations: list[Annotation], split: str) -> list[Annotation]:
    selection = [
        a if a.split else replace(a, split=split) for a in annotations if a.split in ("", split)
    ]
    if not selection:
        counts = ", ".join(
            f"{name} ({count})" for name, count in Counter(a.split for a in annotations).items()
        )
        raise UsageError(f"no annotation belongs to split {split!r}; the splits are {counts}")
    return selection


def _coverage(
    annotations: list[Annotation], folder: Path, videos: Path | None, workspace: Path | None
) -> Coverage | None:
    if videos is not None:
        ws, where = Workspace(videos.absolute()), str(videos)
        ids = [ws.video_id(path) for path in find_videos([videos])]
    else:
        try:
            ws = Workspace.open(workspace)
            ids, where = active_cache(ws.caches).video_ids(), str(ws.root)
        except (MissingError, CacheError):
            if workspace is not None:
                raise
            return None  # the current folder is in no workspace, and none was named
    matches = NameMatcher(ids, ws.root).find_all((a.video for a in annotations), folder, ws.root)
    return Coverage(where, len(matches.ids), matches.unknown, list(matches.ambiguous))
