"""Evaluation set: the annotations of one split, their cached texts, and their corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vla.arguments import Paths
from vla.batches.corpus import Corpus, Query
from vla.batches.corpus_reader import load_corpus, texts_to_cache
from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.captions.matching import match
from vla.datasets._fitting import fit_spans
from vla.datasets.base import Annotation, paragraphs
from vla.errors import MissingError
from vla.hints import Hint
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback
from vla.storage.workspace import Workspace
from vla.workflows.caption_import import (
    caption_paths,
    count_unused,
    durations_of,
    no_captions_reason,
    read_captions,
)
from vla.workflows.encoder_choice import encoder_of
from vla.workflows.text_features import has_encoder
from vla.workflows.train_set import TrainingProvenance

HELD_OUT = "held-out"
"""Split name for the videos that the run was not trained on."""


@dataclass(frozen=True)
class EvalAnnotations:
    """Annotations of an evaluation.

    Attributes:
        annotations: of videos with features, all splits.
        names: name of each video in the annotations.
        missing: number of annotated videos of the split without features.
        omissions: omitted parts of the files, and captions of replaced videos.
    """

    annotations: list[Annotation]
    names: dict[str, str]
    missing: int
    omissions: Omissions = field(default_factory=Omissions)


def annotations_of(
    workspace: Workspace,
    cache: FeatureCache,
    files: Paths | None,
    columns: Mapping[str, str] | None,
    format: str | None,
    split: str,
) -> EvalAnnotations:
    """Return the annotations of videos with features, from files or else from the workspace.

    Raises:
        MissingError: there are none.
    """
    video_ids = set(cache.video_ids())
    paths, omissions = caption_paths(files), Omissions()
    if not paths:
        entries = caption_store.entries(workspace)
        usable = [a for a in caption_store.load_unique(workspace) if a.video in video_ids]
        missing = {e.video for e in entries if _is_in_split(e.annotation, split)} - video_ids
        names = {a.video: a.video for a in usable}
        count_unused(entries, video_ids, omissions)
    else:
        annotations = read_captions(paths, columns, format, omissions)
        matches = match(annotations, video_ids, workspace)
        matches.count(omissions)
        usable, absent = matches.annotations, {*matches.unknown, *matches.ambiguous}
        missing = {a.video for a in annotations if _is_in_split(a, split)} & absent
        names = {a.video: name for a, name in zip(usable, matches.names, strict=True)}
    if not usable:
        raise MissingError(
            no_captions_reason(workspace, paths, len(video_ids)), hint=Hint("give_captions")
        )
    return EvalAnnotations(
        fit_spans(usable, durations_of(cache), omissions), names, len(missing), omissions
    )


def _is_in_split(annotation: Annotation, split: str) -> bool:
    return split in ("", HELD_OUT) or annotation.split.lower() == split.lower()


def of_split(
    annotations: list[Annotation], split: str, provenance: TrainingProvenance | None
) -> list[Annotation]:
    """Return the annotations of the split; raises MissingError if there are none."""
    if split == HELD_OUT:
        if provenance is None:
            raise MissingError(
                "the held-out videos are unknown: the training captions of the run are no longer "
                "in this workspace, "
                "and no split is called train",
                hint=Hint("name_split"),
            )
        selection = [a for a in annotations if a.video not in provenance.videos]
    else:
        selection = [a for a in annotations if _is_in_split(a, split)]
    if not selection:
        counts = Counter(a.split or "(none)" for a in annotations)
        raise MissingError(
            f"no annotations of the split {split!r} for videos with features; splits: "
            + ", ".join(f"{name} ({count})" for name, count in counts.most_common(8))
        )
    return selection


def cache_texts(
    workspace: Workspace,
    cache: FeatureCache,
    annotations: list[Annotation],
    device: str,
    progress: ProgressCallback,
) -> None:
    """Cache the text features of all annotations, and of paragraphs if there is an encoder.

    The workspace is locked only while texts are added: if all are cached, it may be read-only.
    """
    texts = texts_to_cache(annotations, single=False)
    if not cache.spec.is_imported or has_encoder(cache):
        texts += [p.query for p in paragraphs(annotations)]
    if cache.missing_texts(texts):
        progress(Progress("load", message="loading the text encoder for texts without features"))
        encoder = encoder_of(cache, device, "auto")
        with workspace.lock(progress):
            cache.add_texts(
                texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts)))
            )


def corpus_of(
    cache: FeatureCache, annotations: list[Annotation], tokens: bool = False
) -> tuple[Corpus, list[Query]]:
    """Return the corpus of the annotated videos, and each paragraph as one query.

    A paragraph is looked up as one text; if it is not cached, the features of its sentences are
    used. `tokens` as in `load_corpus`.
    """
    sentences: dict[tuple[str, str], list[Annotation]] = {}
    for a in annotations:
        if a.paragraph:
            sentences.setdefault((a.video, a.paragraph), []).append(a)
    paragraph_list, chunks_of = paragraphs(annotations), []
    for paragraph in paragraph_list:
        sentences_of = sorted(
            sentences[paragraph.video, paragraph.query_id], key=lambda a: a.sentence or 0
        )
        chunks_of.append(
            tuple(
                cache.pieces(paragraph.query)
                or (p for a in sentences_of for p in cache.pieces(a.query))
            )
        )
    corpus = load_corpus(
        cache, annotations, tokens=tokens, also=[p for chunks in chunks_of for p in chunks]
    )
    rows = {video.video_id: row for row, video in enumerate(corpus.videos)}
    return corpus, [
        Query(paragraph.query, chunks, chunks, rows[paragraph.video], np.zeros((0, 2)), paragraph)
        for paragraph, chunks in zip(paragraph_list, chunks_of, strict=True)
    ]


def cached_only(cache: FeatureCache, annotations: list[Annotation]) -> list[Annotation]:
    """Return the annotations whose texts are all cached."""
    return [a for a in annotations if not cache.missing_texts(texts_to_cache([a], single=False))]
