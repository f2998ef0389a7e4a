"""Captions on their way from files into the workspace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from vla.arguments import Paths
from vla.batches.corpus import texts_to_cache
from vla.cache.build import ExtractReport
from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.captions.matching import match
from vla.captions.store import CaptionEntry
from vla.datasets._fitting import fit_spans
from vla.datasets._open import read_annotations, read_beside
from vla.datasets.base import Annotation
from vla.datasets.sidecar import find_sidecars
from vla.encoders.base import Encoder
from vla.errors import AnnotationError, MissingError, UsageError
from vla.hints import Hint
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback
from vla.storage import atomic
from vla.storage.workspace import Workspace


def caption_paths(files: Paths | None) -> list[Path]:
    """Each of the files once, in order; raises UsageError for an empty name."""
    listed = [] if files is None else [files] if isinstance(files, str | os.PathLike) else list(files)
    if not all(os.fspath(path).strip() for path in listed):
        raise UsageError("a captions file has an empty name: name a file, or leave the option out")
    return list(dict.fromkeys(Path(path).expanduser().absolute() for path in listed))


def read_captions(
    files: Paths | None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    omissions: Omissions | None = None,
) -> list[Annotation]:
    """The captions in the files, each with the absolute path of its file as its source; none where there is no file."""
    return [
        replace(a, source=str(path))
        for path in caption_paths(files)
        for a in read_annotations(path, format, omissions, **(columns or {}))
    ]


def sidecar_captions(
    report: ExtractReport, place: Workspace, progress: ProgressCallback, omissions: Omissions
) -> tuple[list[Annotation], dict[str, set[str]]]:
    """Captions that lie beside the videos of `report`, and the names of the files that lie beside each.

    A file that cannot be read is reported and passed over. A link to a file in another folder is passed over and counted: an
    archive from elsewhere must not turn files of this machine into captions.
    """
    found: list[Annotation] = []
    names = {place.video_path(r.video_id): r.video_id for r in report.receipts if r.has_features}
    files: dict[str, set[str]] = {video: set() for video in names.values()}
    for video, beside in find_sidecars(names, omissions).items():
        for path in beside:
            if path.is_symlink() and path.resolve().parent != video.parent.resolve():
                omissions.add("linked-captions", place.video_id(path))
                continue
            files[names[video]].add(place.video_id(path))
            try:
                some = read_beside(path, video.stem, omissions)
            except AnnotationError as error:
                progress(Progress("captions", message=str(error), level="warning"))
                continue
            found += [replace(a, video=names[video], source=str(path.absolute())) for a in some]
    return found, files


def durations_of(cache: FeatureCache) -> dict[str, float]:
    """Seconds of each video that has features."""
    return {name: r.duration_seconds for name, r in cache.receipts.items() if r.has_features}


def forget_lost(place: Workspace, files: Mapping[str, set[str]]) -> list[CaptionEntry]:
    """Forget the rows of files that lay beside videos and do no more; `files` names those that do, for each video looked at."""

    def is_gone(entry: CaptionEntry) -> bool:
        if not entry.is_beside or entry.video not in files or entry.source in files[entry.video]:
            return False
        path = place.video_path(entry.source)
        # A video that was renamed keeps what still lies under its old name.
        return not path.is_file() or path.name.startswith(place.video_path(entry.video).stem)

    return caption_store.drop(place, is_gone)


def take_captions(
    place: Workspace,
    cache: FeatureCache,
    given: list[Annotation],
    files: Paths | None,
    before: Mapping[str, str],
    sidecars: bool,
    report: ExtractReport,
    progress: ProgressCallback,
) -> list[Annotation]:
    """Bring the captions of the workspace up to date after an extraction, and return those that are new.

    Args:
        place: the workspace.
        cache: with the receipts of the extraction.
        given: annotations of the files, as they were read.
        files: that were given.
        before: digest of the content of each video before the extraction.
        sidecars: also what lies beside the videos.
        report: of the extraction; what is left out is counted there.
        progress: called with what could not be read.
    """
    caption_store.rename(place, report.renamed)
    contents = contents_of(cache)
    if contents:
        changed = {v for v, content in contents.items() if before.get(v, content) != content}
        caption_store.settle(place, contents, changed)
    beside: list[Annotation] = []
    if sidecars:
        beside, lying = sidecar_captions(report, place, progress, report.omissions)
        for entry in forget_lost(place, lying):
            report.omissions.add("lost-caption", entry.source)
    matched = match(given, cache.video_ids(), place)
    matched.count(report.omissions)
    report.unknown_videos = matched.unknown
    lengths = durations_of(cache)
    beside = fit_spans(beside, lengths, report.omissions)
    listed = fit_spans(matched.annotations, lengths, report.omissions)
    caption_store.add(place, beside, contents, is_beside=True)
    report.captions = caption_store.add(place, listed, contents, sources=map(str, caption_paths(files)))
    for entry in caption_store.entries(place):
        if entry.is_stale:
            report.omissions.add("stale-caption", entry.video)
    return [*listed, *beside]


def contents_of(cache: FeatureCache) -> dict[str, str]:
    """Digest of the content of each video with features; nothing of imported features, whose files are no videos."""
    if cache.spec.is_imported:
        return {}
    return {video: receipt.content for video, receipt in cache.receipts.items() if receipt.has_features}


def encode_captions(
    cache: FeatureCache,
    annotations: list[Annotation],
    encoder: Encoder,
    report: ExtractReport,
    progress: ProgressCallback,
) -> None:
    """Encode the texts of `annotations`; says in `report` how many were new."""
    texts = texts_to_cache(annotations)
    report.texts = cache.add_texts(texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts))))


def training_captions(
    place: Workspace,
    cache: FeatureCache,
    files: Paths | None,
    columns: Mapping[str, str] | None,
    progress: ProgressCallback,
    format: str | None = None,
    omissions: Omissions | None = None,
) -> list[Annotation]:
    """Captions of cached videos and questions about them, from the files or, without any, from the workspace.

    What is left out is counted in `omissions`, if that is given, and said.
    """
    counted = Omissions() if omissions is None else omissions
    have = set(cache.video_ids())
    paths = caption_paths(files)
    if not paths:
        stored = caption_store.entries(place)
        usable = fit_spans([a for a in caption_store.once(place) if a.video in have], durations_of(cache), counted)
        count_unused(stored, have, counted)
    else:
        matched = match(read_captions(paths, columns, format, counted), have, place)
        matched.count(counted)
        usable = fit_spans(matched.annotations, durations_of(cache), counted)
        if usable:
            caption_store.add(place, usable, contents_of(cache))
    if counted:
        progress(Progress("captions", message=f"left out: {counted.summary()}", level="warning"))
    if not usable:
        raise MissingError(nothing_usable(place, paths, len(have)), hint=Hint("give_captions"))
    return usable


def digest_of(annotations: Iterable[Annotation]) -> str:
    """64 hexadecimal digits of what annotations say, wherever their files lie."""
    told = [{**a.to_json(), "source": ""} for a in annotations]
    return atomic.sha256(json.dumps(told, sort_keys=True).encode())


def count_unused(stored: Iterable[CaptionEntry], have: set[str], omissions: Omissions) -> None:
    """Count what the workspace has of videos without features, and of videos that were replaced."""
    for video in dict.fromkeys(e.video for e in stored if e.video not in have):
        omissions.add("no-such-video", video)
    for entry in stored:
        if entry.is_stale and entry.video in have:
            omissions.add("stale-caption", entry.video)


def nothing_usable(place: Workspace, paths: list[Path], count: int) -> str:
    """Why there are no captions to use."""
    if paths:
        return f"{', '.join(map(str, paths))} names none of the {count} extracted videos"
    return (
        "the workspace has captions, but none of its videos as they are"
        if caption_store.entries(place)
        else "the workspace knows no captions"
    )
