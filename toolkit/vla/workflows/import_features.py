"""`import_features`: cache frame features that were extracted elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache, active_cache, set_active_cache
from vla.encoders import registry as encoders
from vla.encoders._presets import encoder_of_model
from vla.errors import FormatError, MissingError, UsageError
from vla.features import IMPORTED_ENCODER, FeatureSpec, FrameFeatures
from vla.formats._texts import read_texts
from vla.formats.base import ArrayKeys
from vla.hints import Hint
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage.workspace import Workspace
from vla.workflows.external_space import active_space, detect_space, space_name
from vla.workflows.feature_files import (
    FeatureFile,
    ImportedVideo,
    convert_features,
    open_feature_files,
)
from vla.workflows.frame_timing import build_timing
from vla.workflows.text_features import add_texts


@dataclass
class ImportFeaturesReport:
    """Result of an import; with `dry_run` the expected result.

    Attributes:
        receipts: one per video, in order; those of failures contain the reason.
        num_videos: number of videos that are new or were read again.
        updates: names of those among them whose features have changed.
        frames: number of their frames.
        texts: number of new texts.
        other_texts: texts whose cached vector differs from that in the file; the cached one stays.
        spec: the feature spec; None if nothing could be read.
        seconds: wall-clock time.
        omissions: counts of skipped content, by reason.
    """

    receipts: list[Receipt] = field(default_factory=list)
    num_videos: int = 0
    updates: list[str] = field(default_factory=list)
    frames: int = 0
    texts: int = 0
    other_texts: list[str] = field(default_factory=list)
    spec: FeatureSpec | None = None
    seconds: float = 0.0
    omissions: Omissions = field(default_factory=Omissions)

    @property
    def problems(self) -> list[Receipt]:
        """Receipts of failures."""
        return [r for r in self.receipts if not r.has_features]


def import_features(
    paths: Iterable[str | Path] = (),
    *,
    model: str | None = None,
    key: str = "",
    times_key: str = "",
    strip: str = "",
    fps: float | None = None,
    stride: int | None = None,
    video_fps: float | None = None,
    clip_length: float | None = None,
    duration: float | None = None,
    durations: Path | None = None,
    texts: Path | None = None,
    texts_key: str = "",
    vectors_key: str = "",
    encoder_model: str | None = None,
    pretrained: str | None = None,
    encoder: str | None = None,
    workspace: Path | None = None,
    change_encoder: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: ProgressCallback = silent,
) -> ImportFeaturesReport:
    """Cache external features without changing them; only new files are read. Invalid files do not
    stop the import.

    Args:
        paths: files, folders and glob patterns; formats are plug-ins of `vla.formats`. A video has
            the name of its file, or of its data set in a file with several.
        model: name of the feature space, e.g. `clip-vit-b32`; spaces of two names are never mixed.
            The previous one if None.
        key: key of the features in each file, if it cannot be detected.
        times_key: key of their times: milliseconds if `ms` is part of it, as in `timestamps_ms`,
            else seconds.
        strip: suffix to remove from names, e.g. `_clip` for `v1_clip.npy`.
        fps: features per second, for files without times.
        stride: alternative to `fps`: distance of features in frames of the video, with `video_fps`.
        video_fps: frame rate of the videos, see `stride`.
        clip_length: alternative to `fps`: seconds per feature; its time is the start of the clip.
        duration: duration of every video in seconds; by default the last frame lasts as long as
            the others.
        durations: a table with the columns video and duration.
        texts: a file of texts with vectors, see `vla.formats._texts`.
        texts_key: key of the texts in it.
        vectors_key: key of their vectors.
        encoder_model: model for encoding new texts: the one that produced the features.
        pretrained: tag or file of its weights.
        encoder: plug-in name for `encoder_model`; if None, that of a preset, else `open_clip`.
        workspace: as for `extract`.
        change_encoder: change the features of the workspace to these; the old ones are kept.
        overwrite: read all files again.
        dry_run: read and check everything, but write nothing.
        progress: called for each video.

    Raises:
        UsageError: nothing to import, no name of the space, no or two timing rules, or a video
            occurs twice.
        FormatError: the file of texts is invalid; nothing was imported.
        SpecMismatchError: the workspace contains other features, and `change_encoder` is False.
    """
    start = time.monotonic()
    paths_list = list(paths)
    if not paths_list and texts is None and encoder_model is None:
        raise UsageError("there is nothing to import", hint=Hint("name_import"))
    timing = build_timing(
        fps=fps,
        stride=stride,
        video_fps=video_fps,
        clip_length=clip_length,
        duration=duration,
        durations=durations,
    )
    ws = Workspace.choose(workspace)
    active = _find_active_cache(ws)
    name = space_name(model, active)
    source = _text_encoder_source(encoder, encoder_model, pretrained)
    imported_texts = read_texts(texts, texts_key, vectors_key) if texts else None
    files = open_feature_files(paths_list, ArrayKeys(key, times_key), timing, strip)
    report = ImportFeaturesReport()
    for file in files:
        report.omissions.merge(file.omissions)
    spec = active_space(name, timing, active, change_encoder, bool(paths_list))
    if spec is None:
        spec, report.receipts = detect_space(name, files)
    if spec is None:
        return report
    if active is not None and not change_encoder:
        active.spec.require_same(
            spec,
            "this workspace",
            "what is to be imported",
            Hint("switch_to_imported"),
        )
    report.spec = spec
    if imported_texts is not None and imported_texts.pooled.shape[1] != spec.dim:
        raise FormatError(
            f"{texts}: vectors are {imported_texts.pooled.shape[1]} wide, the features are "
            f"{spec.dim}"
        )
    if dry_run:
        dry_cache = FeatureCache(
            ws.caches / spec.fingerprint, spec, EncoderSource(IMPORTED_ENCODER, name, "")
        )
        _import_files(dry_cache, files, report, progress, overwrite=overwrite, keep=False)
        report.texts = len(dry_cache.missing_texts(imported_texts.texts)) if imported_texts else 0
    else:
        ws = Workspace.open_or_create(workspace)
        with ws.lock(progress):
            cache = FeatureCache.create(ws.caches, spec, source or _previous_source(ws, spec))
            set_active_cache(ws.caches, cache)
            _import_files(cache, files, report, progress, overwrite=overwrite, keep=True)
            if imported_texts is not None:
                report.texts, report.other_texts = add_texts(cache, imported_texts)
    report.seconds = time.monotonic() - start
    return report


def _find_active_cache(workspace: Workspace) -> FeatureCache | None:
    try:
        return active_cache(workspace.caches)
    except MissingError:
        return None


def _text_encoder_source(
    encoder: str | None, model: str | None, pretrained: str | None
) -> EncoderSource | None:
    """Return the encoder for new texts, if one is named."""
    encoder = encoder or encoder_of_model(model) or "open_clip"
    if encoder not in encoders.names():
        encoders.get(encoder)  # raises an error that lists the names
    if model is None:
        if pretrained is not None:
            raise UsageError(
                "weights are named, and no model that they are of", hint=Hint("name_encoder")
            )
        return None
    return EncoderSource(encoder, model, pretrained or "")


def _previous_source(workspace: Workspace, spec: FeatureSpec) -> EncoderSource:
    """Return the text encoder that was named for this space before; else its name only."""
    try:
        return FeatureCache.open(workspace.caches / spec.fingerprint).source
    except MissingError:
        return EncoderSource(IMPORTED_ENCODER, spec.model, "")


def _import_files(
    cache: FeatureCache,
    files: list[FeatureFile],
    report: ImportFeaturesReport,
    progress: ProgressCallback,
    *,
    overwrite: bool,
    keep: bool,
) -> None:
    """Read new videos, and cache them if `keep`; features stay if their file can no longer be
    read.
    """
    total = sum(len(a.names) for a in files)
    for file in files:
        current = {} if overwrite else file.done(cache)
        for receipt in current.values():
            if keep and cache.receipts[receipt.video_id] != receipt:
                cache.add_receipt(receipt)
            report.receipts.append(receipt)
        if len(current) == len(file.names):
            progress(Progress("import", len(report.receipts), total))
            continue
        for video in file.read(set(current)):
            receipt = _import_video(cache, video, report, keep)
            report.receipts.append(receipt)
            text = "" if receipt.status == "ok" else f"{receipt.video_id}: {receipt.reason}"
            level = "warning" if text else "info"
            progress(Progress("import", len(report.receipts), total, text, level))


def _import_video(
    cache: FeatureCache, video: ImportedVideo | Receipt, report: ImportFeaturesReport, keep: bool
) -> Receipt:
    """Import one video and return its receipt. A failure does not replace cached features."""
    previous = cache.receipts.get(video.video_id)
    has_features = previous is not None and previous.has_features
    result = _convert(video, cache.spec)
    if isinstance(result, Receipt):
        if keep and not has_features:
            cache.add_receipt(result)
        return result
    features, receipt = result
    if previous is not None and has_features and previous.content != receipt.content:
        report.updates.append(receipt.video_id)
    report.num_videos += 1
    report.frames += receipt.frames
    return cache.add_video(features, receipt) if keep else receipt


def _convert(
    video: ImportedVideo | Receipt, spec: FeatureSpec
) -> tuple[FrameFeatures, Receipt] | Receipt:
    """Return the features of the video and their receipt; for an unusable video, the receipt of
    the failure.
    """
    if isinstance(video, Receipt):
        return video
    try:
        return convert_features(video, spec)
    except FormatError as error:
        return video.failure(str(error))
