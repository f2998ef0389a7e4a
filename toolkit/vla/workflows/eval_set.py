"""What is measured with: annotations of one split, their texts cached, and the corpus that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vla.arguments import Paths
from vla.batches.corpus import Corpus, Query, load_corpus, texts_to_cache
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
from vla.workflows.caption_import import caption_paths, count_unused, durations_of, no_captions_reason, read_captions
from vla.workflows.encoder_choice import encoder_of
from vla.workflows.text_features import has_encoder
from vla.workflows.train_set import TrainingProvenance

HELD_OUT = "held-out"
"""Stands for the videos that the run was not trained on."""


@dataclass(frozen=True)
class EvalAnnotations:
    """Annotations that can be measured with.

    Attributes:
        annotations: of cached videos, all splits.
        names: what the file calls each video.
        missing: how many annotated videos of the split have no features.
        omissions: what the files have and was not kept, and captions of videos that were replaced.
    """

    annotations: list[Annotation]
    names: dict[str, str]
    missing: int
    omissions: Omissions = field(default_factory=Omissions)


def annotations_of(
    place: Workspace,
    cache: FeatureCache,
    files: Paths | None,
    columns: Mapping[str, str] | None,
    format: str | None,
    split: str,
) -> EvalAnnotations:
    """The annotations of cached videos in the files, or, without any, those that the workspace knows.

    Raises:
        MissingError: there are none.
    """
    have = set(cache.video_ids())
    paths, omissions = caption_paths(files), Omissions()
    if not paths:
        stored = caption_store.entries(place)
        usable = [a for a in caption_store.load_unique(place) if a.video in have]
        lost = {e.video for e in stored if _is_of(e.annotation, split)} - have
        names = {a.video: a.video for a in usable}
        count_unused(stored, have, omissions)
    else:
        listed = read_captions(paths, columns, format, omissions)
        matched = match(listed, have, place)
        matched.count(omissions)
        usable, absent = matched.annotations, {*matched.unknown, *matched.ambiguous}
        lost = {a.video for a in listed if _is_of(a, split)} & absent
        names = {a.video: name for a, name in zip(usable, matched.names, strict=True)}
    if not usable:
        raise MissingError(no_captions_reason(place, paths, len(have)), hint=Hint("give_captions"))
    return EvalAnnotations(fit_spans(usable, durations_of(cache), omissions), names, len(lost), omissions)


def _is_of(annotation: Annotation, split: str) -> bool:
    return split in ("", HELD_OUT) or annotation.split.lower() == split.lower()


def of_split(annotations: list[Annotation], split: str, known: TrainingProvenance | None) -> list[Annotation]:
    """Those of the split that is asked for; raises MissingError where there is none."""
    if split == HELD_OUT:
        if known is None:
            raise MissingError(
                "which videos were held out is not known: the captions that the run was trained on are no longer those "
                "of this workspace, and no split is called train",
                hint=Hint("name_split"),
            )
        found = [a for a in annotations if a.video not in known.videos]
    else:
        found = [a for a in annotations if _is_of(a, split)]
    if not found:
        there = Counter(a.split or "(none)" for a in annotations)
        raise MissingError(
            f"no annotation of a cached video is of the split {split!r}; there are "
            + ", ".join(f"{name} ({count})" for name, count in there.most_common(8))
        )
    return found


def cache_texts(
    place: Workspace, cache: FeatureCache, annotations: list[Annotation], device: str, progress: ProgressCallback
) -> None:
    """Cache every text that is looked up; paragraphs as one text where there is an encoder for that.

    The workspace is held only while texts are added, so where all are cached it need not be writable.
    """
    texts = texts_to_cache(annotations, single=False)
    if not cache.spec.is_imported or has_encoder(cache):
        texts += [p.query for p in paragraphs(annotations)]
    if cache.missing_texts(texts):
        progress(Progress("load", message="loading the encoder for texts that are not cached"))
        encoder = encoder_of(cache, device, "auto")
        with place.lock(progress):
            cache.add_texts(texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts))))


def corpus_of(cache: FeatureCache, annotations: list[Annotation], tokens: bool = False) -> tuple[Corpus, list[Query]]:
    """The annotated videos with what is told and asked of them, and each paragraph as one query; `tokens` as `load_corpus`.

    A paragraph is looked up as one text; where it is not cached so, its sentences stand for it.
    """
    sentences: dict[tuple[str, str], list[Annotation]] = {}
    for a in annotations:
        if a.paragraph:
            sentences.setdefault((a.video, a.paragraph), []).append(a)
    told_of, parts_of = paragraphs(annotations), []
    for told in told_of:
        own = sorted(sentences[told.video, told.query_id], key=lambda a: a.sentence or 0)
        parts_of.append(tuple(cache.pieces(told.query) or (p for a in own for p in cache.pieces(a.query))))
    corpus = load_corpus(cache, annotations, tokens=tokens, also=[p for parts in parts_of for p in parts])
    rows = {video.video_id: row for row, video in enumerate(corpus.videos)}
    return corpus, [
        Query(told.query, parts, parts, rows[told.video], np.zeros((0, 2)), told)
        for told, parts in zip(told_of, parts_of, strict=True)
    ]


def cached_only(cache: FeatureCache, annotations: list[Annotation]) -> list[Annotation]:
    """Those whose every text is cached."""
    return [a for a in annotations if not cache.missing_texts(texts_to_cache([a], single=False))]
