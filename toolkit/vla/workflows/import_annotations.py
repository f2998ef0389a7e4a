"""`import`: annotations of any form become one file of ours."""

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
from vla.naming.matching import Names
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class Coverage:
    """How many of the videos that annotations name are there.

    Attributes:
        where: the folder, or the workspace, that was looked in.
        there: how many names mean a video there.
        missing: the names for which there is none.
        ambiguous: the names that several videos have.
    """

    where: str
    there: int
    missing: list[str]
    ambiguous: list[str]


@dataclass
class ImportReport:
    """What was read, and where it was written.

    Attributes:
        format: the reader's name.
        annotations: all of them, in the order of the files.
        output: the file that was written; None where none was asked for.
        left_out: rows that were faulty.
        omissions: what the files have and was not kept, by reason.
        coverage: None where there was nowhere to look for videos.
    """

    format: str
    annotations: list[Annotation]
    output: Path | None = None
    left_out: int = 0
    coverage: Coverage | None = None
    omissions: Omissions = field(default_factory=Omissions)

    def summary(self) -> dict[str, Any]:
        """Counts of what there is, as a JSON object; spans in seconds."""
        found = self.annotations
        spans = [(start, end, a.duration) for a in found for start, end in a.spans]
        lengths = sorted(end - start for start, end, _ in spans)
        kinds = Counter("caption" if a.question is None else f"{a.question.kind} question" for a in found)
        summary: dict[str, Any] = {
            "format": self.format,
            "annotations": len(found),
            "videos": len({a.video for a in found}),
            "left_out": self.left_out,
            "omissions": self.omissions.to_json(),
            "kinds": dict(kinds),
            "splits": {
                split: {"annotations": count, "videos": len({a.video for a in found if a.split == split})}
                for split, count in Counter(a.split for a in found).items()
            },
            "categories": dict(sorted(Counter(a.category for a in found if a.category).items())),
            "paragraphs": len({(a.video, a.paragraph) for a in found if a.paragraph}),
            "rated": sum(a.saliency is not None for a in found),
            "spans": None,
            "output": None if self.output is None else str(self.output),
            "coverage": None if self.coverage is None else vars(self.coverage),
        }
        if spans:
            summary["spans"] = {
                "annotations": sum(bool(a.spans) for a in found),
                "spans": len(spans),
                "with_several": sum(len(a.spans) > 1 for a in found),
                "shortest": lengths[0],
                "median": median(lengths),
                "longest": lengths[-1],
                "after_the_end": sum(duration is not None and end > duration for _, end, duration in spans),
            }
        return summary


def list_formats() -> dict[str, str]:
    """What each reader reads, by name; of a plug-in of others that cannot be loaded, the reason."""
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
    skip_faulty: bool = False,
    videos: Path | None = None,
    workspace: Path | None = None,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
) -> ImportReport:
    """Read annotations of any form and, if asked to, write them as one file of ours.

    Args:
        format: the reader's name, one of `list_formats()`.
        paths: its files; some formats are several files that belong together.
        output: JSONL to write, one annotation a line; nothing is written when None.
        split: only annotations of this split, and those whose files tell none, which are then of this one; all when empty.
        as_paragraphs: one annotation of the whole video for each paragraph, instead of its sentences.
        skip_faulty: leave out faulty rows, instead of refusing their file.
        videos: the folder to look for the videos in.
        workspace: where to look for them otherwise; found upwards from the current folder when None.
        overwrite: replace `output` if it is there.
        progress: called with what was left out.

    Raises:
        AnnotationError: a file cannot be read, or holds faults; nothing was written.
        UsageError: `output` is there already, or is one of the files; or `videos` is no folder.
        UnknownNameError: no reader is called so.
    """
    files = [Path(path).expanduser() for path in paths]
    if output is not None:
        _check_output(output, files, overwrite)
    if videos is not None and not videos.is_dir():
        raise UsageError(f"there is no folder {videos} to look for videos in")
    report = ImportReport(format, [], output)
    annotations = _read(cast(Dataset, registry.build(format)), files, skip_faulty, report, progress)
    if split:
        annotations = _of_split(annotations, split)
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
    # os.path has an answer for impossible names too, which writing will refuse in its own words.
    if not os.path.exists(output):  # noqa: PTH110
        return
    if any(os.path.exists(path) and path.samefile(output) for path in files):  # noqa: PTH110
        raise UsageError(f"{output} is one of the files to be read: write somewhere else")
    if output.is_dir():
        raise UsageError(f"{output} is a folder: name a file in it")
    if not overwrite:
        raise UsageError(f"{output} is there already", hint=Hint("overwrite"))


def _read(
    dataset: Dataset, files: list[Path], skip_faulty: bool, report: ImportReport, progress: ProgressCallback
) -> list[Annotation]:
    try:
        return read_files(dataset, files, report.omissions)
    except InvalidRowsError as error:
        if not error.sound:
            raise
        if not skip_faulty:
            raise AnnotationError(
                f"{error}\nThe {len(error.sound)} others are sound", hint=Hint("skip_faulty")
            ) from error
        report.left_out = error.faults
        report.omissions.add("row", count=error.faults)
        progress(Progress("import", message=f"left out what is faulty: {error}", level="warning"))
        return error.sound


def _of_split(annotations: list[Annotation], split: str) -> list[Annotation]:
    chosen = [a if a.split else replace(a, split=split) for a in annotations if a.split in ("", split)]
    if not chosen:
        there = ", ".join(f"{name} ({count})" for name, count in Counter(a.split for a in annotations).items())
        raise UsageError(f"no annotation is of the split {split!r}; there are {there}")
    return chosen


def _coverage(
    annotations: list[Annotation], folder: Path, videos: Path | None, workspace: Path | None
) -> Coverage | None:
    if videos is not None:
        place, where = Workspace(videos.absolute()), str(videos)
        ids = [place.video_id(path) for path in find_videos([videos])]
    else:
        try:
            place = Workspace.open(workspace)
            ids, where = active_cache(place.caches).video_ids(), str(place.root)
        except (MissingError, CacheError):
            if workspace is not None:
                raise
            return None  # nobody asked for it
    found = Names(ids, place.root).find_all((a.video for a in annotations), folder, place.root)
    return Coverage(where, len(found.ids), found.unknown, list(found.ambiguous))
