"""Captions on their way from files into the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vla.cache import captions as caption_store
from vla.cache.build import ExtractReport
from vla.cache.store import FeatureCache
from vla.corpus import texts_to_cache
from vla.datasets._fitting import fit_spans
from vla.datasets._open import read_annotations, read_beside
from vla.datasets.base import Annotation
from vla.datasets.sidecar import find_sidecars
from vla.encoders.base import Encoder
from vla.errors import AnnotationError, MissingError
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback
from vla.workspace import Workspace


def read_captions(
    path: Path | None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    omissions: Omissions | None = None,
) -> list[Annotation]:
    """The captions in the file at `path`, each naming it as its source; none where there is no file."""
    if path is None:
        return []
    source = str(path.absolute())
    return [replace(a, source=source) for a in read_annotations(path, format, omissions, **(columns or {}))]


def sidecar_captions(report: ExtractReport, place: Workspace, progress: ProgressCallback) -> list[Annotation]:
    """Captions that lie beside the videos of `report`; a file that cannot be read is reported and passed over."""
    found: list[Annotation] = []
    names = {place.video_path(r.video_id): r.video_id for r in report.receipts if r.has_features}
    for video, beside in find_sidecars(names, report.omissions).items():
        for path in beside:
            try:
                some = read_beside(path, video.stem, report.omissions)
            except AnnotationError as error:
                progress(Progress("captions", message=str(error), level="warning"))
                continue
            found += [replace(a, video=names[video], source=place.video_id(path)) for a in some]
    return found


def durations_of(cache: FeatureCache) -> dict[str, float]:
    """Seconds of each video that has features."""
    return {name: r.duration_seconds for name, r in cache.receipts.items() if r.has_features}


def keep_captions(
    place: Workspace,
    cache: FeatureCache,
    annotations: list[Annotation],
    encoder: Encoder,
    report: ExtractReport,
    progress: ProgressCallback,
) -> None:
    """Keep `annotations` in the workspace and encode their texts; says in `report` how many there are."""
    annotations = fit_spans(annotations, durations_of(cache), report.omissions)
    if annotations:
        report.captions = caption_store.add(place, annotations)
        texts = texts_to_cache(annotations)
        report.texts = cache.add_texts(texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts))))


def training_captions(
    place: Workspace,
    cache: FeatureCache,
    path: Path | None,
    columns: Mapping[str, str] | None,
    progress: ProgressCallback,
    format: str | None = None,
    omissions: Omissions | None = None,
) -> list[Annotation]:
    """Captions of cached videos and questions about them, from the file or, without one, from the workspace."""
    have = set(cache.video_ids())
    omissions = Omissions() if omissions is None else omissions
    if path is None:
        known = caption_store.load(place)
        usable = fit_spans(each_once([a for a in known if a.video in have]), durations_of(cache), omissions)
        left_out = len({a.video for a in known} - have)
    else:
        listed = read_captions(path, columns, format, omissions)
        matched = caption_store.match(listed, have, place, path.parent)
        usable, left_out = fit_spans(matched.annotations, durations_of(cache), omissions), len(matched.unknown)
        if usable:
            caption_store.add(place, usable)
    if omissions:
        progress(Progress("captions", message=f"left out: {omissions.summary()}", level="warning"))
    if left_out:
        progress(
            Progress("captions", message=f"{left_out} videos with captions have no features; left out", level="warning")
        )
    if not usable:
        where = f"{path} names none of the {len(have)} extracted videos" if path else "the workspace knows no captions"
        raise MissingError(f"{where}: give captions of extracted videos with --captions FILE")
    return usable


def each_once(annotations: list[Annotation]) -> list[Annotation]:
    """Captions without those that several files have of one video and time; of equal ones, the one that names its split."""
    found: dict[tuple[object, ...], Annotation] = {}
    for a in annotations:
        same = (a.video, a.query, a.spans, a.question)
        if same not in found or (a.split and not found[same].split):
            found[same] = a
    return list(found.values())
