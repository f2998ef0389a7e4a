"""Training provenance of a run: the annotations that it was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from vla.batches.corpus_reader import load_corpus
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
    """Annotations that a run was trained on, for baselines that are within_videos to them.

    Attributes:
        annotations: of the training videos.
        how: their source, in words.
    """

    annotations: list[Annotation]
    how: str

    @property
    def videos(self) -> set[str]:
        """Names of the videos."""
        return {a.video for a in self.annotations}


def training_provenance(
    workspace: Workspace, cache: FeatureCache, run: Run | None, extra: list[Annotation]
) -> TrainingProvenance | None:
    """Return the annotations that `run` was trained on.

    A run identifies them by a digest. If no set of annotations has that digest (captions were added
    since, or `run` is None), they are the annotations whose split begins with `train`.

    Args:
        workspace: whose captions are searched, too.
        cache: of the features.
        run: None for the frozen encoder.
        extra: annotations of the caller.

    Returns:
        None where they are unknown.
    """
    video_ids = set(cache.video_ids())
    own = [a for a in caption_store.load(workspace) if a.video in video_ids]
    if run is not None:
        within_videos = fit_spans(caption_store.deduplicate(own), durations_of(cache), Omissions())
        for annotations in (*_candidates(extra, own), within_videos):
            provenance = _provenance(annotations, run, cache)
            if provenance is not None:
                return provenance
    training = [
        a for a in caption_store.deduplicate([*extra, *own]) if a.split.lower().startswith("train")
    ]
    return (
        TrainingProvenance(training, "annotations whose split begins with 'train'")
        if training
        else None
    )


def _candidates(extra: list[Annotation], own: list[Annotation]) -> Iterator[list[Annotation]]:
    yield extra
    yield caption_store.deduplicate(own)
    yield own
    by_source: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in own:
        by_source[annotation.source].append(annotation)
    yield from by_source.values()


def _provenance(
    annotations: list[Annotation], run: Run, cache: FeatureCache
) -> TrainingProvenance | None:
    """Return the provenance of `run` if it was trained on `annotations`; else None."""
    try:
        config = TrainConfig.from_mapping(run.record["config"], f"run {run.name}")
    except (UsageError, KeyError, TypeError):
        return None  # settings of another version, which have another digest
    if (
        config.identity(cache.spec.fingerprint, cache.state(), digest_of(annotations))
        != run.identity
    ):
        return None
    try:
        corpus = load_corpus(cache, annotations)
        names = [video.video_id for video in corpus.videos]
        rows = {name: row for row, name in enumerate(names)}
        split_names = {rows[a.video]: a.split for a in annotations if a.split}
        split = split_rows(len(names), split_names, config.val_fraction, config.seed)
    except MissingError:
        return None
    split = hold_out_concepts(split, corpus, config.held_out_concepts, config.seed)
    videos = {names[row] for row in split.train}
    held_out = {id(corpus.queries[row].annotation) for row in split.held_out_queries}
    trained_on = [a for a in annotations if a.video in videos and id(a) not in held_out]
    return TrainingProvenance(trained_on, "what the run was trained on")
