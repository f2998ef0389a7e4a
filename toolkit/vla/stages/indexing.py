"""`index`: what `search` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vla.cache.store import FeatureCache, current_cache
from vla.errors import MissingError
from vla.model import frozen
from vla.progress import ProgressCallback, silent
from vla.search.build import build_index
from vla.search.store import open_index, save_index
from vla.stages.training import DEFAULT_RUN
from vla.train.checkpoint import FROZEN, load_model, open_run
from vla.workspace import Workspace


@dataclass
class IndexReport:
    """What `index` made.

    Attributes:
        videos: how many.
        segments: rows of the index.
        run: the trained run whose projector made the vectors; empty for the frozen encoder.
        backend: index plug-in.
        megabytes: size of the vectors.
        notes: what a person should know.
    """

    videos: int
    segments: int
    run: str
    backend: str
    megabytes: float
    notes: list[str] = field(default_factory=list)


def index(
    *,
    workspace: Path | None = None,
    run: str | None = None,
    backend: str = "faiss_flat",
    progress: ProgressCallback = silent,
) -> IndexReport:
    """Build the index that `search` reads.

    Args:
        workspace: as for `train`.
        run: a run's name; `none` for the frozen encoder; None for the default run if it beats the frozen encoder.
        backend: index plug-in.
        progress: called for each video.

    Raises:
        MissingError: no features, or no such run.
        SpecMismatchError: the run was trained on features of another encoder.
    """
    place = Workspace.open(workspace)
    cache = current_cache(place.caches)
    with place.locked(progress):
        name, notes = choose_run(place, cache, run)
        model, digest = frozen(cache.spec.dim, 1.0), ""
        if name:
            model, found = load_model(place.runs / name)
            digest = found.digest
        built = build_index(cache, model, run=name, run_digest=digest, backend=backend, progress=progress)
        save_index(place.index, built)
    size = len(built.video_of_row) * built.vectors.dim * 4 / 1e6
    return IndexReport(len(built.videos), len(built.video_of_row), name, backend, size, notes)


def choose_run(place: Workspace, cache: FeatureCache, run: str | None) -> tuple[str, list[str]]:
    """Which run to index with (empty: the frozen encoder), and what to say about it."""
    if run == FROZEN:
        return "", []
    try:
        found = open_run(place.runs / (run or DEFAULT_RUN))
    except MissingError:
        if run is not None:
            raise
        return "", []
    if run is not None:
        found.spec.require_same(
            cache.spec, f"run {run!r}", "the features of this workspace",
            "Train a run on these features ('vla train --name NAME'), or index without one (--run none)",
        )  # fmt: skip
        return run, []
    if found.spec.fingerprint != cache.spec.fingerprint:
        return "", ["the trained run is of other features than this workspace's; indexed with the frozen encoder"]
    if not found.is_better:
        return "", [
            "the trained run was no better than the frozen encoder on the held-out videos; indexed with the frozen encoder "
            f"(--run {DEFAULT_RUN} uses it all the same)"
        ]
    return DEFAULT_RUN, []


def index_if_needed(place: Workspace, progress: ProgressCallback) -> None:
    """Build the index if there is none, or if it does not hold what the cache holds."""
    cache = current_cache(place.caches)
    try:
        held = open_index(place.index)
    except MissingError:
        held = None
    name, _ = choose_run(place, cache, None)
    current = held is not None and held.cache_state == cache.state() and held.spec.fingerprint == cache.spec.fingerprint
    if not current or (held is not None and held.run != name):
        index(workspace=place.root, progress=progress)
