"""Import of captions from files and sidecars into the workspace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from vla.arguments import Paths
from vla.batches.corpus_reader import texts_to_cache
from vla.cache.build import ExtractReport
from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.captions.matching import match
from vla.captions.store import CaptionEntry
from vla.datasets._fitting import fit_spans
from vla.datasets._open import read_annotations, read_sidecar
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
    """Return the files without duplicates, in order; raises UsageError for an empty name."""
    paths = (
        [] if files is None else [files] if isinstance(files, str | os.PathLike) else list(files)
    )
    if not all(os.fspath(path).strip() for path in paths):
        raise UsageError("a captions file has an empty name")
    return list(dict.fromkeys(Path(path).expanduser().absolute() for path in paths))


def read_captions(
    files: Paths | None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    omissions: Omissions | None = None,
) -> list[Annotation]:
    """Return the captions in the files; the source of each is the absolute path of its file."""
    return [
        replace(a, source=str(path))
        for path in caption_paths(files)
        for a in read_annotations(path, format, omissions, **(columns or {}))
    ]


def sidecar_captions(
    report: ExtractReport, workspace: Workspace, progress: ProgressCallback, omissions: Omissions
) -> tuple[list[Annotation], dict[str, set[str]]]:
    """Return the captions beside the videos of `report`, and the names of the sidecar files of
    each video.

    Unreadable files are reported and skipped. A link to a file in another folder is skipped and
    counted: an archive from elsewhere must not turn files of this machine into captions.
    """
    annotations: list[Annotation] = []
    names = {
        workspace.video_path(r.video_id): r.video_id for r in report.receipts if r.has_features
    }
    files: dict[str, set[str]] = {video: set() for video in names.values()}
    for video, beside in find_sidecars(names, omissions).items():
        for path in beside:
            if path.is_symlink() and path.resolve().parent != video.parent.resolve():
                omissions.add("linked-captions", workspace.video_id(path))
                continue
            files[names[video]].add(workspace.video_id(path))
            try:
                captions = read_sidecar(path, video.stem, omissions)
            except AnnotationError as error:
                progress(Progress("captions", message=str(error), level="warning"))
                continue
            annotations += [
                replace(a, video=names[video], source=str(path.absolute())) for a in captions
            ]
    return annotations, files


def durations_of(cache: FeatureCache) -> dict[str, float]:
    """Return the durations in seconds of all videos with features."""
    return {name: r.duration_seconds for name, r in cache.receipts.items() if r.has_features}


def drop_lost_captions(workspace: Workspace, files: Mapping[str, set[str]]) -> list[CaptionEntry]:
    """Remove entries of deleted sidecar files; `files` contains the sidecar names of each scanned
    video.
    """

    def is_gone(entry: CaptionEntry) -> bool:
        if not entry.is_sidecar or entry.video not in files or entry.source in files[entry.video]:
            return False
        path = workspace.video_path(entry.source)
        # A renamed video keeps entries of sidecars that still have its old name.
        return not path.is_file() or path.name.startswith(workspace.video_path(entry.video).stem)

    return caption_store.drop(workspace, is_gone)


def update_captions(
    workspace: Workspace,
    cache: FeatureCache,
    annotations: list[Annotation],
    files: Paths | None,
    before: Mapping[str, str],
    sidecars: bool,
    report: ExtractReport,
    progress: ProgressCallback,
) -> list[Annotation]:
    """Update the captions of the workspace after an extraction, and return the new ones.

    Args:
        workspace: the workspace.
        cache: its receipts are those after the extraction.
        annotations: the annotations of `files`.
        files: caption files.
        before: content digest of each video before the extraction.
        sidecars: also read sidecar files.
        report: report of the extraction; receives the counts of skipped captions.
        progress: called with warnings about unreadable files.
    """
    caption_store.rename(workspace, report.renamed)
    digests = content_digests(cache)
    if digests:
        modified_videos = {v for v, digest in digests.items() if before.get(v, digest) != digest}
        caption_store.reconcile(workspace, digests, modified_videos)
    sidecar_annotations: list[Annotation] = []
    if sidecars:
        sidecar_annotations, sidecar_files = sidecar_captions(
            report, workspace, progress, report.omissions
        )
        for entry in drop_lost_captions(workspace, sidecar_files):
            report.omissions.add("lost-caption", entry.source)
    result = match(annotations, cache.video_ids(), workspace)
    result.count(report.omissions)
    report.unknown_videos = result.unknown
    lengths = durations_of(cache)
    sidecar_annotations = fit_spans(sidecar_annotations, lengths, report.omissions)
    file_annotations = fit_spans(result.annotations, lengths, report.omissions)
    caption_store.add(workspace, sidecar_annotations, digests, is_sidecar=True)
    report.captions = caption_store.add(
        workspace, file_annotations, digests, sources=map(str, caption_paths(files))
    )
    for entry in caption_store.entries(workspace):
        if entry.is_stale:
            report.omissions.add("stale-caption", entry.video)
    return [*file_annotations, *sidecar_annotations]


def content_digests(cache: FeatureCache) -> dict[str, str]:
    """Return the content digest of each video with features; empty for imported features, which
    have no videos.
    """
    if cache.spec.is_imported:
        return {}
    return {
        video: receipt.content for video, receipt in cache.receipts.items() if receipt.has_features
    }


def encode_captions(
    cache: FeatureCache,
    annotations: list[Annotation],
    encoder: Encoder,
    report: ExtractReport,
    progress: ProgressCallback,
) -> None:
    """Encode the texts of `annotations`, and store the number of new ones in `report`."""
    texts = texts_to_cache(annotations)
    report.texts = cache.add_texts(
        texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts)))
    )


def training_captions(
    workspace: Workspace,
    cache: FeatureCache,
    files: Paths | None,
    columns: Mapping[str, str] | None,
    progress: ProgressCallback,
    format: str | None = None,
    omissions: Omissions | None = None,
) -> list[Annotation]:
    """Return captions of and questions about cached videos: those in the files, or without files
    those in the workspace.

    Skipped captions are counted in `omissions`, if given, and reported as a warning.
    """
    counts = Omissions() if omissions is None else omissions
    video_ids = set(cache.video_ids())
    paths = caption_paths(files)
    if not paths:
        entries = caption_store.entries(workspace)
        usable = fit_spans(
            [a for a in caption_store.load_unique(workspace) if a.video in video_ids],
            durations_of(cache),
            counts,
        )
        count_unused(entries, video_ids, counts)
    else:
        result = match(read_captions(paths, columns, format, counts), video_ids, workspace)
        result.count(counts)
        usable = fit_spans(result.annotations, durations_of(cache), counts)
        if usable:
            caption_store.add(workspace, usable, content_digests(cache))
    if counts:
        progress(Progress("captions", message=f"left out: {counts.summary()}", level="warning"))
    if not usable:
        raise MissingError(
            no_captions_reason(workspace, paths, len(video_ids)), hint=Hint("give_captions")
        )
    return usable


def digest_of(annotations: Iterable[Annotation]) -> str:
    """Return the digest (64 hexadecimal digits) of the content of annotations, independent of
    their sources.
    """
    records = [{**a.to_json(), "source": ""} for a in annotations]
    return atomic.sha256(json.dumps(records, sort_keys=True).encode())


def count_unused(
    entries: Iterable[CaptionEntry], video_ids: set[str], omissions: Omissions
) -> None:
    """Count captions in the workspace of videos without features, and of replaced videos."""
    for video in dict.fromkeys(e.video for e in entries if e.video not in video_ids):
        omissions.add("no-such-video", video)
    for entry in entries:
        if entry.is_stale and entry.video in video_ids:
            omissions.add("stale-caption", entry.video)


def no_captions_reason(workspace: Workspace, paths: list[Path], count: int) -> str:
    """Return the reason why there are no captions to use."""
    if paths:
        return f"{', '.join(map(str, paths))} names none of the {count} extracted videos"
    return (
        "the workspace has captions, but none of its videos as they are"
        if caption_store.entries(workspace)
        else "the workspace has no captions"
    )
