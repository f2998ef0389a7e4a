"""What a run was trained on, found again: floors are fitted to it, and figures of it are to be told from others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from vla.batches.corpus import load_corpus
from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.datasets._fitting import fit_spans
from vla.datasets.base import Annotation
from vla.errors import MissingError, UsageError
from vla.omissions import Omissions
from vla.storage.workspace import Workspace
from vla.training.checkpoint import Run
from vla.training.config import TrainConfig
from vla.training.split import hold_out_concepts, split_rows
from vla.workflows.caption_import import digest_of, durations_of


@dataclass(frozen=True)
class TrainingProvenance:
    """Annotations that a run was trained on.

    Attributes:
        annotations: of the videos that were trained on.
        how: where they come from, for a person.
    """

    annotations: list[Annotation]
    how: str

    @property
    def videos(self) -> set[str]:
        """Names of the videos."""
        return {a.video for a in self.annotations}


def training_provenance(
    place: Workspace, cache: FeatureCache, run: Run | None, given: list[Annotation]
) -> TrainingProvenance | None:
    """What `run` was trained on, among `given` and what the workspace knows; None where that cannot be told.

    A run names what it was trained on by a digest. Where nothing here has that digest (captions were added since, or the
    frozen encoder is asked about), it is the annotations whose split begins with `train`.
    """
    have = set(cache.video_ids())
    stored = [a for a in caption_store.load(place) if a.video in have]
    if run is not None:
        fitted = fit_spans(caption_store.deduplicate(stored), durations_of(cache), Omissions())
        for annotations in (*_candidates(given, stored), fitted):
            found = _if_of_run(annotations, run, cache)
            if found is not None:
                return found
    named = [a for a in caption_store.deduplicate([*given, *stored]) if a.split.lower().startswith("train")]
    return TrainingProvenance(named, "annotations whose split begins with 'train'") if named else None


def _candidates(given: list[Annotation], stored: list[Annotation]) -> Iterator[list[Annotation]]:
    yield given
    yield caption_store.deduplicate(stored)
    yield stored
    by_source: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in stored:
        by_source[annotation.source].append(annotation)
    yield from by_source.values()


def _if_of_run(annotations: list[Annotation], run: Run, cache: FeatureCache) -> TrainingProvenance | None:
    try:
        config = TrainConfig.from_mapping(run.record["config"], f"run {run.name}")
    except (UsageError, KeyError, TypeError):
        return None  # settings of another version: its digest would be another one, too
    if config.identity(cache.spec.fingerprint, cache.state(), digest_of(annotations)) != run.identity:
        return None
    try:
        corpus = load_corpus(cache, annotations)
        names = [video.video_id for video in corpus.videos]
        rows = {name: row for row, name in enumerate(names)}
        named = {rows[a.video]: a.split for a in annotations if a.split}
        split = split_rows(len(names), named, config.held_out, config.seed)
    except MissingError:
        return None
    split = hold_out_concepts(split, corpus, config.withheld, config.seed)
    videos = {names[row] for row in split.train}
    hidden = {id(corpus.queries[row].annotation) for row in split.withheld}
    told_of = [a for a in annotations if a.video in videos and id(a) not in hidden]
    return TrainingProvenance(told_of, "what the run was trained on")
