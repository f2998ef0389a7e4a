"""`export`: write cached features, unchanged or aligned by a run, in exchange formats."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla.batches.corpus_reader import text_vectors
from vla.cache.store import FeatureCache, active_cache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.errors import CacheError, MissingError, UsageError
from vla.features import FrameFeatures
from vla.formats import registry as formats
from vla.formats._names import file_names
from vla.formats._record import describe_space, make_record
from vla.formats._texts import npz_bytes
from vla.formats.base import ExportItem, WritableFormat
from vla.formats.npz import TEXTS
from vla.hints import Hint
from vla.model import AlignmentModel, zero_shot_model
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.training.checkpoint import FROZEN, load_model
from vla.workflows.export_folder import assign_videos, check_folder, remove_stale_files
from vla.workflows.index import choose_run
from vla.workflows.maintenance import match_videos

RAW = "raw"
"""Name for cached features without alignment."""
_TEXT_BATCH = 1000


@dataclass
class ExportReport:
    """Result of an export.

    Attributes:
        folder: the output folder.
        files: names of the files in it, in order.
        videos: names of the exported videos.
        frames: number of exported frames.
        texts: number of texts with vectors.
        failures: skipped videos, with the reason: unreadable features, or a name that the format
            cannot store.
        run: the run that aligned the features; `raw` if none.
    """

    folder: Path
    run: str
    files: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    frames: int = 0
    texts: int = 0
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Aligner:
    """Alignment of cached vectors for the export; without a model they are unchanged."""

    run: str
    digest: str
    model: AlignmentModel | None

    def frames(self, features: FrameFeatures) -> FrameFeatures:
        if self.model is None:
            return features
        values = self.model.align_frames(features)
        return FrameFeatures(
            features.video_id, values, features.timestamps_seconds, features.duration_seconds
        )

    def texts(self, cache: FeatureCache, texts: list[str]) -> np.ndarray:
        vectors = text_vectors(cache, texts)
        return vectors.astype(np.float16) if self.model is None else self.model.align_texts(vectors)


def export(
    dest: str | Path,
    patterns: Iterable[str] = (),
    *,
    format: str = "npy",
    run: str = RAW,
    per_shard: int = 1000,
    overwrite: bool = False,
    workspace: Path | None = None,
    progress: ProgressCallback = silent,
) -> ExportReport:
    """Write the features of videos, and their captions, into the folder `dest`.

    The captions are written as `texts.npz` (vectors) and `texts.jsonl` (annotations), if there are
    any; without patterns, `texts.npz` also contains all other cached texts.

    Args:
        dest: the output folder; created if missing.
        patterns: as for `list_videos`; all videos if empty.
        format: plug-in name: `npy`, `parquet` or `webdataset`.
        run: `raw` (cached features), `none` (normalized zero-shot features) or a run name (aligned
            features).
        per_shard: maximum number of videos per file, for formats with several videos per file;
            long videos lower it.
        overwrite: replace existing files.
        workspace: as for `search`.
        progress: called for each video.

    Raises:
        UsageError: files exist already, or the format cannot be written.
        MissingError: there are no features, no matching video, or no such run.
        SpecMismatchError: the run was trained on features of another encoder.
        ResourceError: the disk is full or not writable; finished files stay.
    """
    ws = Workspace.open(workspace)
    writer = _writer(format)
    if per_shard < 1:
        raise UsageError(f"per_shard must be at least 1, not {per_shard}")
    folder = Path(os.path.abspath(Path(dest).expanduser()))  # noqa: PTH100 - resolve() would follow links
    cache = active_cache(ws.caches)
    patterns_list = list(patterns)
    names = [v for v in match_videos(cache, ws, patterns_list) if cache.receipts[v].has_features]
    if not names:
        raise MissingError("none of these videos has features", hint=Hint("list_videos"))
    aligner = _aligner(ws, cache, run)
    selection = set(names)
    annotations = [a for a in caption_store.load_unique(ws) if a.video in selection]
    keys = file_names(cache.video_ids(), dots=not writer.holds_many)
    texts = dict.fromkeys(
        [*(a.query for a in annotations), *(() if patterns_list else cache.cached_texts())]
    )
    files = assign_videos(cache, names, keys, writer, per_shard)
    check_folder(ws, folder, files, writer, bool(texts), overwrite)
    remove_stale_files(folder, files)
    captions: dict[str, dict[str, None]] = defaultdict(dict)
    for annotation in annotations:
        captions[annotation.video][annotation.query] = None
    report = ExportReport(folder, run)
    for name, videos in files.items():
        items = list(
            _export_items(cache, {v: keys[v] for v in videos}, captions, aligner, writer, report)
        )
        if items:
            writer.write(folder, name, items)
            report.files += [name + suffix for suffix in writer.output_suffixes]
        progress(Progress("export", len(report.videos) + len(report.failures), len(names)))
    if texts:
        _write_texts(
            folder, cache, [t for t in texts if cache.pieces(t)], annotations, aligner, report
        )
    return report


def _writer(name: str) -> WritableFormat:
    writer: WritableFormat = formats.build(name)
    if not hasattr(writer, "write"):
        writable = ", ".join(
            n for n, plugin in formats.loadable().items() if hasattr(plugin, "write")
        )
        raise UsageError(f"format {name!r} is read-only; features can be written as {writable}")
    return writer


def _aligner(workspace: Workspace, cache: FeatureCache, run: str) -> _Aligner:
    if run == RAW:
        return _Aligner("", "", None)
    if run == FROZEN:
        return _Aligner(FROZEN, "", zero_shot_model(cache.spec.dim, 1.0))
    name, *_ = choose_run(workspace, cache, run)
    model, checkpoint = load_model(workspace.runs / name)
    return _Aligner(name, checkpoint.digest, model)


def _export_items(
    cache: FeatureCache,
    keys: Mapping[str, str],
    captions: Mapping[str, Iterable[str]],
    aligner: _Aligner,
    writer: WritableFormat,
    report: ExportReport,
) -> Iterator[ExportItem]:
    """Yield the exportable videos with their features and captions; others are added to
    `report.failures`.
    """
    space = describe_space(cache.spec, aligner.run, aligner.digest)
    for video, key in keys.items():
        if not (writer.allows_any_name or _is_text(video)):
            report.failures[video] = (
                "its name contains bytes that are not text, which this format cannot store"
            )
            continue
        try:
            features = aligner.frames(cache.frames(video))
        except CacheError as error:
            report.failures[video] = str(error)
            continue
        report.videos.append(video)
        report.frames += len(features.values)
        yield ExportItem(
            key, features, make_record(features, space), tuple(captions.get(video, ()))
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_texts(
    folder: Path,
    cache: FeatureCache,
    texts: list[str],
    annotations: list[Annotation],
    aligner: _Aligner,
    report: ExportReport,
) -> None:
    """Write `texts.npz`, the vectors of the texts, and `texts.jsonl`, annotations that
    `vla.extract` can read.
    """
    rows = [
        aligner.texts(cache, texts[i : i + _TEXT_BATCH]) for i in range(0, len(texts), _TEXT_BATCH)
    ]
    if rows:
        atomic.write_bytes(folder / TEXTS[0], npz_bytes(texts, np.concatenate(rows)))
        report.files.append(TEXTS[0])
        report.texts = len(texts)
    # Sources are private paths and are removed; ids may occur in two files and are made unique.
    counts = Counter(a.query_id for a in annotations)
    ids = [
        a.query_id if counts[a.query_id] == 1 else f"{a.query_id}#{n}"
        for n, a in enumerate(annotations)
    ]
    lines = [
        json.dumps(replace(a, query_id=i, source="").to_json()) + "\n"
        for i, a in zip(ids, annotations, strict=True)
    ]
    atomic.write_bytes(folder / TEXTS[1], "".join(lines).encode("ascii"))
    report.files.append(TEXTS[1])
