"""`export`: cached features, as they are or aligned by a run, in files that others read."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla.batches.corpus import text_vectors
from vla.cache.store import FeatureCache, active_cache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.errors import CacheError, MissingError, UsageError
from vla.features import FrameFeatures
from vla.formats import registry as formats
from vla.formats._names import file_names
from vla.formats._record import record_of, space_of
from vla.formats._texts import npz_of
from vla.formats.base import ExportItem, WritableFormat
from vla.formats.npz import TEXTS
from vla.hints import Hint
from vla.model import AlignmentModel, zero_shot_model
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.training.checkpoint import FROZEN, load_model
from vla.workflows.index import choose_run
from vla.workflows.maintenance import chosen_videos

RAW = "raw"
"""Stands for the features as they are cached, which no run has touched."""
_SHARD_BYTES = 512 << 20
_TOGETHER = 1000

# A temporary file that nothing has written to for so long is what a killed export left.
_STALE_SECONDS = 3600.0


@dataclass
class ExportReport:
    """What an export wrote.

    Attributes:
        folder: where.
        files: their names in it, in order.
        videos: names of the videos that are in them.
        frames: how many frames these have.
        texts: texts with vectors.
        damaged: videos that are left out, with the reason: their features cannot be read any more, or their names not written.
        run: what aligned the features; `raw` where nothing did.
    """

    folder: Path
    run: str
    files: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    frames: int = 0
    texts: int = 0
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Aligner:
    """What makes the exported vectors of the cached ones; without a model, nothing does."""

    run: str
    digest: str
    model: AlignmentModel | None

    def frames(self, features: FrameFeatures) -> FrameFeatures:
        if self.model is None:
            return features
        values = self.model.align_frames(features)
        return FrameFeatures(features.video_id, values, features.timestamps_seconds, features.duration_seconds)

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
    """Write the features of the workspace's videos, and what is known to be told of them, into the folder `dest`.

    With the features come `texts.npz`, the captions' vectors, and `texts.jsonl`, the captions themselves, as far as there are;
    without patterns, also the vectors of all other texts that are known.

    Args:
        dest: a folder; made where there is none.
        patterns: as for `list_videos`; all videos without.
        format: plug-in name; `npy`, `parquet` or `webdataset`.
        run: `raw` for the cached features; `none` for the frozen encoder's, with unit norm; or the run that aligns them.
        per_shard: at most so many videos in a file that holds several; fewer where they are long.
        overwrite: replace files that are there.
        workspace: as for `search`.
        progress: called for each video.

    Raises:
        UsageError: files are there already, or the format cannot be written.
        MissingError: no features, no video that a pattern fits, or no such run.
        SpecMismatchError: the run was trained on features of another encoder.
        ResourceError: the disk is full or not writable; files that were finished stay.
    """
    place = Workspace.open(workspace)
    writer = _writer(format)
    if per_shard < 1:
        raise UsageError(f"a shard holds at least 1 video, not {per_shard}")
    folder = Path(os.path.abspath(Path(dest).expanduser()))  # noqa: PTH100 - links are left as they are
    cache = active_cache(place.caches)
    asked = list(patterns)
    names = [v for v in chosen_videos(cache, place, asked) if cache.receipts[v].has_features]
    if not names:
        raise MissingError("none of these videos has features", hint=Hint("list_videos"))
    aligner = _aligner(place, cache, run)
    wanted = set(names)
    told = [a for a in caption_store.once(place) if a.video in wanted]
    keys = file_names(cache.video_ids(), dots=not writer.holds_many)
    texts = dict.fromkeys([*(a.query for a in told), *(() if asked else cache.known_texts())])
    files = _files(cache, names, keys, writer, per_shard)
    _require_room(place, folder, files, writer, bool(texts), overwrite)
    _clear(folder, files)
    captions: dict[str, dict[str, None]] = defaultdict(dict)
    for annotation in told:
        captions[annotation.video][annotation.query] = None
    report = ExportReport(folder, run)
    for name, videos in files.items():
        ready = list(_outgoing(cache, {v: keys[v] for v in videos}, captions, aligner, writer, report))
        if ready:
            writer.write(folder, name, ready)
            report.files += [name + suffix for suffix in writer.written]
        progress(Progress("export", len(report.videos) + len(report.damaged), len(names)))
    if texts:
        _write_texts(folder, cache, [t for t in texts if cache.pieces(t)], told, aligner, report)
    return report


def _writer(name: str) -> WritableFormat:
    writer: WritableFormat = formats.build(name)
    if not hasattr(writer, "write"):
        able = ", ".join(n for n, plugin in formats.working().items() if hasattr(plugin, "write"))
        raise UsageError(f"{name!r} is only read; features are written as {able}")
    return writer


def _aligner(place: Workspace, cache: FeatureCache, run: str) -> _Aligner:
    if run == RAW:
        return _Aligner("", "", None)
    if run == FROZEN:
        return _Aligner(FROZEN, "", zero_shot_model(cache.spec.dim, 1.0))
    name, *_ = choose_run(place, cache, run)
    model, found = load_model(place.runs / name)
    return _Aligner(name, found.digest, model)


def _files(
    cache: FeatureCache, names: list[str], keys: dict[str, str], writer: WritableFormat, per_shard: int
) -> dict[str, list[str]]:
    """The videos of each file, by its name without suffix."""
    if not writer.holds_many:
        return {keys[v]: [v] for v in names}
    shards: list[list[str]] = []
    size = 0
    for video in names:
        more = cache.receipts[video].frames * cache.spec.dim * 4
        if not shards or len(shards[-1]) == per_shard or size + more > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(video)
        size += more
    return {f"{number:05d}": videos for number, videos in enumerate(shards)}


def _clear(folder: Path, files: Iterable[str]) -> None:
    """Delete what exports that were killed left behind; a fresh file may be one that another export is writing."""
    for place in {folder, *((folder / name).parent for name in files)}:
        for path in place.glob(f"{atomic.TEMPORARY}*"):
            is_ours = re.fullmatch(re.escape(atomic.TEMPORARY) + "[0-9a-f]{12}", path.name) is not None
            if is_ours and time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                atomic.unlink_quietly(path)


def _require_room(
    place: Workspace, folder: Path, files: Iterable[str], writer: WritableFormat, has_texts: bool, overwrite: bool
) -> None:
    """Nothing, if the folder can take the files and they will be all that is of their kind in it.

    Raises:
        UsageError: it cannot, or something is there already.
    """
    if folder == place.home or place.home in folder.parents:
        raise UsageError(f"{folder} belongs to the workspace itself: export to another folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    targets = {name + suffix for name in files for suffix in writer.written} | set(TEXTS if has_texts else ())
    there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    if not overwrite and targets & there:
        raise UsageError(
            f"{len(targets & there)} files are in {folder} already, e.g. {min(targets & there)}",
            hint=Hint("overwrite"),
        )
    shards = {n for n in there if any(re.fullmatch(rf"\d{{5}}{re.escape(s)}", n) for s in writer.written)}
    if writer.holds_many and shards - targets:
        raise UsageError(
            f"{folder} holds shards of a larger export, e.g. {min(shards - targets)}, which would be taken for part of this "
            "one: delete them, or export to another folder"
        )


def _outgoing(
    cache: FeatureCache,
    keys: Mapping[str, str],
    captions: Mapping[str, Iterable[str]],
    aligner: _Aligner,
    writer: WritableFormat,
    report: ExportReport,
) -> Iterator[ExportItem]:
    """The videos with all that is written of them; those that cannot be are told of in `report`."""
    space = space_of(cache.spec, aligner.run, aligner.digest)
    for video, key in keys.items():
        if not (writer.any_name or _is_text(video)):
            report.damaged[video] = "its name holds bytes that are no text, which this format cannot say"
            continue
        try:
            features = aligner.frames(cache.frames(video))
        except CacheError as error:
            report.damaged[video] = str(error)
            continue
        report.videos.append(video)
        report.frames += len(features.values)
        yield ExportItem(key, features, record_of(features, space), tuple(captions.get(video, ())))


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
    told: list[Annotation],
    aligner: _Aligner,
    report: ExportReport,
) -> None:
    """`texts.npz`, the vector of each text, and `texts.jsonl`, the captions, which `--captions` reads again."""
    rows = [aligner.texts(cache, texts[i : i + _TOGETHER]) for i in range(0, len(texts), _TOGETHER)]
    if rows:
        atomic.write_bytes(folder / TEXTS[0], npz_of(texts, np.concatenate(rows)))
        report.files.append(TEXTS[0])
        report.texts = len(texts)
    # Where they were read is nobody else's business; two files may use one id.
    often = Counter(a.query_id for a in told)
    ids = [a.query_id if often[a.query_id] == 1 else f"{a.query_id}#{n}" for n, a in enumerate(told)]
    lines = [json.dumps(replace(a, query_id=i, source="").to_json()) + "\n" for i, a in zip(ids, told, strict=True)]
    atomic.write_bytes(folder / TEXTS[1], "".join(lines).encode("ascii"))
    report.files.append(TEXTS[1])
