"""`index`: what `search` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.batches.corpus import text_vectors
from vla.cache.plan import missing_files
from vla.cache.store import FeatureCache, active_cache
from vla.errors import CacheError, MissingError
from vla.hints import Hint, Note
from vla.indexes import registry as indexes
from vla.indexing.config import AUTO, IndexConfig, parse_bytes
from vla.indexing.segments import CUT
from vla.indexing.store import SearchIndex, open_index
from vla.indexing.sync import Model, SyncReport, sync_index
from vla.model import AlignmentModel, zero_shot_model
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage.workspace import Workspace
from vla.threads import small_work
from vla.training.checkpoint import FROZEN, load_model, open_run
from vla.workflows.demo_notice import strangers, warning
from vla.workflows.train import DEFAULT_RUN

_QUERIES = 400


@dataclass
class IndexReport:
    """What `index` made.

    Attributes:
        videos: how many the index holds.
        segments: rows that can be found.
        run: the trained run whose projector made the vectors; empty for the frozen encoder.
        reason: why that run, or the frozen encoder, was used.
        backend: index plug-in of most segments.
        megabytes: what a search holds in memory.
        added: videos that were indexed now.
        renamed: videos that only had another name.
        removed: videos that were left out, because they are gone or have other features.
        parts: of how many parts the index is.
        measured: the fields of an `IndexBenchmark` for each kind of index that was measured; none for an index so small
            that it is searched exhaustively.
        notes: what a person should know.
        omissions: videos that are in the index, but whose files are gone.
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
    """Bring the index that `search` reads up to date: only what is new, changed, renamed or gone is worked on.

    An index of another run or encoder is built anew. Extraction may go on meanwhile; what it adds is left for the next time.

    Args:
        workspace: as for `train`.
        run: a run's name; `none` for the frozen encoder; None for the default run if it plainly beats the frozen
            encoder on its held-out videos (`vla.evaluation.verdict`).
        backend: index plug-in, or `auto` for the fastest that measurements find to do; None for what was asked last.
        memory: what the index may take of it, like `2GB`; None for what was asked last, at first for half of what is free.
        recall: share of the ten best segments that are to be found, on average; None for what was asked last, at first 0.99.
        compact: make one part of all that was added bit by bit, and choose and measure its index anew where it is large.
        progress: called for each video, and for each kind of index that is measured.

    Raises:
        MissingError: no features, or no such run.
        SpecMismatchError: the run was trained on features of another encoder.
        UnknownNameError: no such plug-in.
        UsageError: `memory` is no size, or `recall` no share.
    """
    place = Workspace.open(workspace)
    if backend not in (None, AUTO):
        indexes.get(backend)
    cache = active_cache(place.caches)
    with place.locked_index(progress):
        name, reason, notes = choose_run(place, cache, run)
        model = Model(zero_shot_model(cache.spec.dim, 1.0))
        if name:
            aligned, found = load_model(place.runs / name)
            model = Model(aligned, name, found.digest)
        held, before = _held(place.index)
        asked = _asked(held.asked if held else IndexConfig(), backend, memory, recall)
        if held and (reason := _why_anew(held, cache, model)):
            held, before = None, [reason]
        with small_work():
            brought = sync_index(
                place.index, held, cache, model, asked,
                queries=lambda: _queries(cache, model.aligned), compact=compact, progress=progress,
            )  # fmt: skip
    strange = strangers(place, cache.spec, brought.index.videos)
    warnings = [warning(len(strange), len(brought.index.videos))] if strange else []
    report = _report(brought, [*notes, *before, *brought.notes, *warnings], reason)
    for video in [] if cache.spec.is_imported else missing_files(cache, place, [Path(place.root.anchor)]):
        report.omissions.add("missing-file", video)
    return report


def _held(folder: Path) -> tuple[SearchIndex | None, list[str]]:
    """The index that is there, and what is to be said if it is none."""
    try:
        return open_index(folder, load=False), []
    except MissingError:
        return None, []
    except CacheError as error:
        return None, [f"built anew, because the index could not be read ({error})"]


def _why_anew(held: SearchIndex, cache: FeatureCache, model: Model) -> str:
    """Why nothing of `held` can be used; empty if it can."""
    if held.spec.fingerprint != cache.spec.fingerprint:
        mine, theirs = held.spec.to_json(), cache.spec.to_json()
        fields = [k for k in mine if k != "fingerprint" and mine[k] != theirs[k]]
        differ = ", ".join(f"{k}: {mine[k]!r}, now {theirs[k]!r}" for k in fields)
        return f"built anew, because the index was of other features ({differ})"
    if held.run != model.run:
        names = [f"run {name!r}" if name else "the frozen encoder" for name in (held.run, model.run)]
        return f"built anew with {names[1]}, because the index was made with {names[0]}"
    if held.run_digest != model.run_digest:
        return f"built anew, because run {model.run!r} was trained anew since the index was made"
    if held.cut != CUT:
        return f"built anew, because videos are cut into other segments now ({CUT!r}; in the index {held.cut or 'windows'!r})"
    return ""


def _asked(before: IndexConfig, backend: str | None, memory: str | None, recall: float | None) -> IndexConfig:
    """What was asked `before`, with what is asked now in its place."""
    return IndexConfig(
        before.backend if backend is None else backend,
        before.memory if memory is None else parse_bytes(memory),
        before.recall if recall is None else recall,
    )


def _queries(cache: FeatureCache, model: AlignmentModel) -> np.ndarray:
    """`(Q, E)`: some of the texts that are cached, as a search would have them."""
    texts = [t for t in cache.known_texts() if cache.pieces(t) == [t]]
    chosen = np.random.default_rng(0).permutation(len(texts))[:_QUERIES]
    if not len(chosen):
        return np.zeros((0, cache.spec.dim), np.float32)
    return model.align_texts(text_vectors(cache, [texts[i] for i in chosen]))


def _report(brought: SyncReport, notes: list[str], reason: str) -> IndexReport:
    index, found = brought.index, brought.diff
    return IndexReport(
        len(index.videos), len(index.vectors), index.run, index.backend, index.bytes_loaded / 1e6,
        len(found.new), len(found.renamed), len(found.gone), len(index.parts),
        [row.__dict__ for row in index.measured], notes, reason=reason,
    )  # fmt: skip


def choose_run(place: Workspace, cache: FeatureCache, run: str | None) -> tuple[str, str, list[str]]:
    """The run to index with (empty: the frozen encoder), the reason, and notes: why a trained run is passed over."""
    if run == FROZEN:
        return "", "the frozen encoder was asked for", []
    try:
        found = open_run(place.run(run or DEFAULT_RUN))
    except MissingError:
        if run is not None:
            raise
        return "", "there is no trained run", []
    if run is not None:
        found.spec.require_same(
            cache.spec, f"run {run!r}", "the features of this workspace",
            Hint("train_here"),
        )  # fmt: skip
        return run, f"run {run!r} was asked for", []
    if found.spec.fingerprint != cache.spec.fingerprint:
        reason = "the trained run is of other features than this workspace's"
        return "", reason, [f"{reason}; indexed with the frozen encoder"]
    if not found.is_better:
        reason = f"run {DEFAULT_RUN!r}: {found.verdict}"
        return "", reason, [Note(f"{reason}. Indexed with the frozen encoder", Hint("use_run", run=DEFAULT_RUN))]
    return DEFAULT_RUN, found.verdict, []


def index_if_needed(place: Workspace, progress: ProgressCallback) -> None:
    """The index holds what the cache holds; where it does already, nothing is written."""
    for note in index(workspace=place.root, progress=progress).notes:
        progress(Progress("index", message=note, level="note"))
