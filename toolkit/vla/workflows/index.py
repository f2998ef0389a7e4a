"""`index`: build or update the index that `search` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.batches.corpus_reader import text_vectors
from vla.cache.plan import missing_files
from vla.cache.store import FeatureCache, active_cache
from vla.errors import CacheError, MissingError
from vla.hints import Hint, Note
from vla.indexes import registry as indexes
from vla.indexing.config import AUTO, IndexConfig, parse_bytes
from vla.indexing.search_index import SearchIndex
from vla.indexing.segments import SEGMENTATION
from vla.indexing.store import open_index
from vla.indexing.sync import RunModel, SyncReport, sync_index
from vla.model import AlignmentModel, zero_shot_model
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage.workspace import Workspace
from vla.threads import small_op_threads
from vla.training.checkpoint import FROZEN, load_model, open_run
from vla.workflows.demo_notice import demo_warning, unrendered_videos
from vla.workflows.train import DEFAULT_RUN

_QUERIES = 400


@dataclass
class IndexReport:
    """Report of `index`.

    Attributes:
        videos: number of videos in the index.
        segments: number of segments.
        run: trained run whose projector made the vectors; empty for the frozen encoder.
        reason: reason for the choice of the run or of the frozen encoder, or for a rebuild.
        backend: index plug-in of the largest fragment.
        megabytes: size of the loaded index in memory.
        added: number of videos that were added.
        renamed: number of videos whose name changed.
        removed: number of videos that were removed because they are deleted or have other features.
        parts: number of fragments.
        measured: fields of `IndexBenchmark` for each kind of index that was benchmarked; empty for
            an index small enough for exhaustive search.
        notes: messages for the user.
        omissions: videos of the index whose files are missing.
    """

    videos: int
    segments: int
    run: str
    backend: str
    megabytes: float
    added: int = 0
    renamed: int = 0
    removed: int = 0
    parts: int = 0
    measured: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    omissions: Omissions = field(default_factory=Omissions)
    reason: str = ""


def index(
    *,
    workspace: Path | None = None,
    run: str | None = None,
    backend: str | None = None,
    memory: str | None = None,
    recall: float | None = None,
    compact: bool = False,
    progress: ProgressCallback = silent,
) -> IndexReport:
    """Update the index that `search` reads.

    Only new, changed, renamed and deleted videos are processed.

    An index of another run or encoder is rebuilt. Extractions may run meanwhile; their new videos
    are indexed by the next call.

    Args:
        workspace: as for `train`.
        run: name of a run; `none` for the frozen encoder; None for the default run if it is clearly
            better than the frozen encoder on its held-out videos (`vla.evaluation.verdict`).
        backend: index plug-in, or `auto` for the fastest one in a benchmark; None for the previous
            configuration.
        memory: maximum size of the index in memory, such as `2GB`; None for the previous
            configuration, at first half of the free memory.
        recall: minimum recall@10; None for the previous configuration, at first 0.99.
        compact: merge all fragments into one, and autotune its index again if it is large.
        progress: called for each video, and for each kind of index in a benchmark.

    Raises:
        MissingError: there are no features, or there is no such run.
        SpecMismatchError: the run was trained on features of another encoder.
        UnknownNameError: there is no such plug-in.
        UsageError: `memory` is not a size, or `recall` is not a share.
    """
    space = Workspace.open(workspace)
    if backend not in (None, AUTO):
        indexes.get(backend)
    cache = active_cache(space.caches)
    with space.lock_index(progress):
        name, reason, notes = choose_run(space, cache, run)
        model = RunModel(zero_shot_model(cache.spec.dim, 1.0))
        if name:
            run_model, record = load_model(space.runs / name)
            model = RunModel(run_model, name, record.digest)
        previous, rebuild_notes = _open_previous(space.index)
        config = _update_config(
            previous.config if previous else IndexConfig(), backend, memory, recall
        )
        if previous and (reason := _rebuild_reason(previous, cache, model)):
            previous, rebuild_notes = None, [reason]
        with small_op_threads():
            sync = sync_index(
                space.index, previous, cache, model, config,
                queries=lambda: _cached_queries(cache, model.model), compact=compact, progress=progress,
            )  # fmt: skip
    unsupported = unrendered_videos(space, cache.spec, sync.index.videos)
    warnings = [demo_warning(len(unsupported), len(sync.index.videos))] if unsupported else []
    report = _report(sync, [*notes, *rebuild_notes, *sync.notes, *warnings], reason)
    for video in (
        [] if cache.spec.is_imported else missing_files(cache, space, [Path(space.root.anchor)])
    ):
        report.omissions.add("missing-file", video)
    return report


def _open_previous(folder: Path) -> tuple[SearchIndex | None, list[str]]:
    """Return the index in `folder`, or None and notes for the user if it cannot be read."""
    try:
        return open_index(folder, load=False), []
    except MissingError:
        return None, []
    except CacheError as error:
        return None, [f"built anew, because the index could not be read ({error})"]


def _rebuild_reason(index: SearchIndex, cache: FeatureCache, model: RunModel) -> str:
    """Return the reason for rebuilding `index`; empty if it can be updated."""
    if index.spec.fingerprint != cache.spec.fingerprint:
        before, now = index.spec.to_json(), cache.spec.to_json()
        keys = [k for k in before if k != "fingerprint" and before[k] != now[k]]
        changes = ", ".join(f"{k}: {before[k]!r}, now {now[k]!r}" for k in keys)
        return f"built anew, because the index was of other features ({changes})"
    if index.run != model.run:
        names = [
            f"run {name!r}" if name else "the frozen encoder" for name in (index.run, model.run)
        ]
        return f"built anew with {names[1]}, because the index was made with {names[0]}"
    if index.run_digest != model.run_digest:
        return f"built anew, because run {model.run!r} was trained anew since the index was made"
    if index.segmentation != SEGMENTATION:
        methods = f"{SEGMENTATION!r}; in the index {index.segmentation or 'windows'!r}"
        return f"built anew, because videos are cut into other segments now ({methods})"
    return ""


def _update_config(
    config: IndexConfig, backend: str | None, memory: str | None, recall: float | None
) -> IndexConfig:
    """Return `config` with the values that are not None."""
    return IndexConfig(
        config.backend if backend is None else backend,
        config.memory if memory is None else parse_bytes(memory),
        config.recall if recall is None else recall,
    )


def _cached_queries(cache: FeatureCache, model: AlignmentModel) -> np.ndarray:
    """Return `(Q, E)` unit vectors of a sample of the cached texts."""
    texts = [t for t in cache.cached_texts() if cache.pieces(t) == [t]]
    sample = np.random.default_rng(0).permutation(len(texts))[:_QUERIES]
    if not len(sample):
        return np.zeros((0, cache.spec.dim), np.float32)
    return model.align_texts(text_vectors(cache, [texts[i] for i in sample]))


def _report(sync: SyncReport, notes: list[str], reason: str) -> IndexReport:
    index, diff = sync.index, sync.diff
    return IndexReport(
        len(index.videos), len(index.vectors), index.run, index.backend, index.nbytes / 1e6,
        len(diff.new), len(diff.renamed), len(diff.deleted), len(index.parts),
        [row.__dict__ for row in index.benchmarks], notes, reason=reason,
    )  # fmt: skip


def choose_run(
    workspace: Workspace, cache: FeatureCache, run: str | None
) -> tuple[str, str, list[str]]:
    """Return the run to index with (empty for the frozen encoder), the reason, and notes on a run
    that is not used.
    """
    if run == FROZEN:
        return "", "the frozen encoder was asked for", []
    try:
        record = open_run(workspace.run(run or DEFAULT_RUN))
    except MissingError:
        if run is not None:
            raise
        return "", "there is no trained run", []
    if run is not None:
        record.spec.require_same(
            cache.spec, f"run {run!r}", "the features of this workspace",
            Hint("train_here"),
        )  # fmt: skip
        return run, f"run {run!r} was asked for", []
    if record.spec.fingerprint != cache.spec.fingerprint:
        reason = "the trained run is of other features than this workspace's"
        return "", reason, [f"{reason}; indexed with the frozen encoder"]
    if not record.is_better:
        reason = f"run {DEFAULT_RUN!r}: {record.verdict}"
        return (
            "",
            reason,
            [Note(f"{reason}. Indexed with the frozen encoder", Hint("use_run", run=DEFAULT_RUN))],
        )
    return DEFAULT_RUN, record.verdict, []


def index_if_needed(workspace: Workspace, progress: ProgressCallback) -> None:
    """Update the index with the previous configuration; nothing is written if it is up to date."""
    for note in index(workspace=workspace.root, progress=progress).notes:
        progress(Progress("index", message=note, level="note"))
