"""`import_features`: frame features that others released become a cache of this workspace."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache, active_cache, set_active_cache
from vla.encoders import registry as encoders
from vla.errors import FormatError, MissingError, UsageError
from vla.features import IMPORTED, FeatureSpec, FrameFeatures
from vla.formats._texts import read_texts
from vla.formats.base import ArrayKeys
from vla.hints import Hint
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage.workspace import Workspace
from vla.workflows.feature_files import UNKNOWN, FeatureFile, ImportedVideo, features_of, incoming
from vla.workflows.frame_timing import Timing, timing_of
from vla.workflows.text_features import keep_texts


@dataclass
class ImportFeaturesReport:
    """What an import did, or with `dry_run` would do.

    Attributes:
        receipts: one for each video, in order; those that failed say why.
        imported: how many videos are new or were read anew.
        replaced: names of those among them whose features were others before.
        frames: how many frames they have.
        texts: texts that are new.
        other_texts: texts that have another vector here than in the file; it stays.
        spec: the feature space; None if nothing could be read.
        seconds: wall-clock time.
        omissions: what was left out, by reason.
    """

    receipts: list[Receipt] = field(default_factory=list)
    imported: int = 0
    replaced: list[str] = field(default_factory=list)
    frames: int = 0
    texts: int = 0
    other_texts: list[str] = field(default_factory=list)
    spec: FeatureSpec | None = None
    seconds: float = 0.0
    omissions: Omissions = field(default_factory=Omissions)

    @property
    def problems(self) -> list[Receipt]:
        """Receipts of what failed."""
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
    encoder: str = "open_clip",
    workspace: Path | None = None,
    switch: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: ProgressCallback = silent,
) -> ImportFeaturesReport:
    """Cache the features in `paths` as they are; does only what is new. One bad file never stops the others.

    Args:
        paths: files, folders and glob patterns; what is read is on the shelf `vla.formats`. A video is called like its file,
            or like its dataset in a file of many.
        model: name of the feature space, e.g. `clip-vit-b32`: two names never mix. As before in this workspace when None.
        key: name of the features in each file, where it cannot be guessed.
        times_key: likewise, of their times: in milliseconds if `ms` is a part of it, as in `timestamps_ms`, else in seconds.
        strip: what is taken off the end of names, e.g. `_clip` for `v1_clip.npy`.
        fps: features per second, for files without times.
        stride: instead: every so many frames of the video, which has `video_fps`.
        video_fps: see `stride`.
        clip_length: instead: seconds that each feature stands for; it counts from the clip's begin.
        duration: seconds of every video; where nothing says it, the last frame is shown as long as the others.
        durations: a table with the columns video and duration.
        texts: a file of texts with their vectors, see `vla.formats._texts`.
        texts_key: name of the texts in it.
        vectors_key: name of their vectors.
        encoder_model: the model that new texts are to be encoded with: what the features were made with.
        pretrained: tag or file of its weights.
        encoder: plug-in name for `encoder_model`.
        workspace: as for `extract`.
        switch: let the workspace go on with these features; those it went on with before are kept.
        overwrite: read everything anew.
        dry_run: read and check everything, keep nothing.
        progress: called for each video.

    Raises:
        UsageError: nothing to import, no name for the space, no or two ways of timing, two files for one name.
        FormatError: the file of texts cannot be used; nothing was imported.
        SpecMismatchError: the workspace holds other features, and `switch` is False.
    """
    began = time.monotonic()
    some = list(paths)
    if not some and texts is None and encoder_model is None:
        raise UsageError("there is nothing to import", hint=Hint("name_import"))
    timing = timing_of(
        fps=fps, stride=stride, video_fps=video_fps, clip_length=clip_length, duration=duration, durations=durations
    )
    place = Workspace.choose(workspace)
    before = _before(place)
    name = _name_of(model, before)
    source = _source(encoder, encoder_model, pretrained)
    given = read_texts(texts, texts_key, vectors_key) if texts else None
    arrivals = incoming(some, ArrayKeys(key, times_key), timing, strip)
    report = ImportFeaturesReport()
    for arrival in arrivals:
        report.omissions.merge(arrival.omissions)
    spec = _known_space(name, timing, before, switch, bool(some)) or _first_space(name, arrivals, report)
    if spec is None:
        return report
    if before is not None and not switch:
        before.spec.require_same(
            spec, "this workspace", "what is to be imported",
            Hint("switch_to_imported"),
        )  # fmt: skip
    report.spec = spec
    if given is not None and given.pooled.shape[1] != spec.dim:
        raise FormatError(f"{texts}: vectors are {given.pooled.shape[1]} wide, the features are {spec.dim}")
    if dry_run:
        held = FeatureCache(place.caches / spec.fingerprint, spec, EncoderSource(IMPORTED, name, ""))
        _bring_in(held, arrivals, report, progress, overwrite=overwrite, keep=False)
        report.texts = len(held.missing_texts(given.texts)) if given else 0
    else:
        place = Workspace.open_or_create(workspace)
        with place.locked(progress):
            cache = FeatureCache.create(place.caches, spec, source or _source_before(place, spec))
            set_active_cache(place.caches, cache)
            _bring_in(cache, arrivals, report, progress, overwrite=overwrite, keep=True)
            if given is not None:
                report.texts, report.other_texts = keep_texts(cache, given)
    report.seconds = time.monotonic() - began
    return report


def _before(place: Workspace) -> FeatureCache | None:
    try:
        return active_cache(place.caches)
    except MissingError:
        return None


def _name_of(model: str | None, before: FeatureCache | None) -> str:
    name = model if model is not None else before.spec.model if before and before.spec.is_imported else ""
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise UsageError(
            f"the space of the features needs a name, not {name!r}; features of two names are never mixed",
            hint=Hint("name_space"),
        )
    return name


def _source(encoder: str, model: str | None, pretrained: str | None) -> EncoderSource | None:
    """The encoder of new texts, if one is named."""
    if encoder not in encoders.names():
        encoders.get(encoder)  # says which there are
    if model is None:
        if pretrained is not None:
            raise UsageError("weights are named, and no model that they are of", hint=Hint("name_encoder"))
        return None
    return EncoderSource(encoder, model, pretrained or "")


def _source_before(place: Workspace, spec: FeatureSpec) -> EncoderSource:
    """What was named for this space before; else nothing but its name."""
    try:
        return FeatureCache.open(place.caches / spec.fingerprint).source
    except MissingError:
        return EncoderSource(IMPORTED, spec.model, "")


def _known_space(
    name: str, timing: Timing, before: FeatureCache | None, switch: bool, has_paths: bool
) -> FeatureSpec | None:
    """The space that the workspace goes on with, if it is the one that is meant."""
    if before is not None and before.spec.is_imported and before.spec.model == name:
        if not has_paths or (before.spec.sampling == timing.sampling and not switch):
            return before.spec
    if not has_paths:
        raise UsageError(f"this workspace has no features called {name!r} yet: import them first, or with the rest")
    return None


def _first_space(name: str, arrivals: list[FeatureFile], report: ImportFeaturesReport) -> FeatureSpec | None:
    """The space of the first video that can be imported. None if none can; `report` then says why."""
    failed = []
    for arrival in arrivals:
        with closing(arrival.read()) as videos:
            for found in videos:
                if isinstance(found, ImportedVideo):
                    origin = found.released.origin or UNKNOWN
                    spec = FeatureSpec(IMPORTED, name, origin, UNKNOWN, found.timing.sampling, found.width)
                    made = _made(found, spec)
                    if not isinstance(made, Receipt):
                        return spec
                    found = made
                failed.append(found)
    report.receipts = failed
    return None


def _bring_in(
    cache: FeatureCache, arrivals: list[FeatureFile], report: ImportFeaturesReport, progress: ProgressCallback, *,
    overwrite: bool, keep: bool,
) -> None:  # fmt: skip
    """Read what is new, and with `keep` commit it; what was there stays where its file cannot be read any more."""
    total = sum(len(a.names) for a in arrivals)
    for arrival in arrivals:
        done = {} if overwrite else arrival.done(cache)
        for receipt in done.values():
            if keep and cache.receipts[receipt.video_id] != receipt:
                cache.add_receipt(receipt)
            report.receipts.append(receipt)
        if len(done) == len(arrival.names):
            progress(Progress("import", len(report.receipts), total))
            continue
        for found in arrival.read(set(done)):
            receipt = _one(cache, found, report, keep)
            report.receipts.append(receipt)
            text = "" if receipt.status == "ok" else f"{receipt.video_id}: {receipt.reason}"
            level = "warning" if text else "info"
            progress(Progress("import", len(report.receipts), total, text, level))


def _one(cache: FeatureCache, found: ImportedVideo | Receipt, report: ImportFeaturesReport, keep: bool) -> Receipt:
    """What became of one video. Features that are there already are not lost to a file that cannot be used."""
    before = cache.receipts.get(found.video_id)
    has_features = before is not None and before.has_features
    made = _made(found, cache.spec)
    if isinstance(made, Receipt):
        if keep and not has_features:
            cache.add_receipt(made)
        return made
    features, receipt = made
    if before is not None and has_features and before.content != receipt.content:
        report.replaced.append(receipt.video_id)
    report.imported += 1
    report.frames += receipt.frames
    return cache.add_video(features, receipt) if keep else receipt


def _made(found: ImportedVideo | Receipt, spec: FeatureSpec) -> tuple[FrameFeatures, Receipt] | Receipt:
    """The features of the video and their receipt; the receipt of its failure where it cannot be used."""
    if isinstance(found, Receipt):
        return found
    try:
        return features_of(found, spec)
    except FormatError as error:
        return found.failed(str(error))
