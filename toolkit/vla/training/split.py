"""Split of a corpus into training videos, validation videos and held-out concepts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vla.batches.corpus import Corpus
from vla.errors import MissingError

_NUM_CLUSTERS = 10
"""Held-out concepts are the nearest neighbours of this many texts, which differ as users' queries
do.
"""
_MIN_CONCEPTS = 50
"""With fewer concepts none are held out: too few would be left to train on, or to measure."""


@dataclass(frozen=True)
class Split:
    """Rows of a corpus for training and for validation.

    Attributes:
        train: rows of videos.
        val: rows of videos, none of which is in `train`.
        held_out_queries: rows of queries that are not trained on although their videos may be: no
            caption that is trained on describes the same concepts.
        held_out_videos: rows of videos that have held-out queries only, in neither of the others.
        names_val: whether the annotations name the validation videos. Otherwise `held_out_videos`
            validate, too.
    """

    train: np.ndarray
    val: np.ndarray
    held_out_queries: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    held_out_videos: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    names_val: bool = False

    def training_corpus(self, corpus: Corpus) -> Corpus:
        """Return `corpus` without the held-out queries; rows of videos do not change."""
        held_out = set(self.held_out_queries.tolist())
        return replace(
            corpus, queries=[q for i, q in enumerate(corpus.queries) if i not in held_out]
        )


def split_rows(count: int, split_names: dict[int, str], val_fraction: float, seed: int) -> Split:
    """Return the rows of training and validation videos.

    Where captions name splits, videos of those that begin with `val` or `dev` (`validation`,
    `val_1`) validate, videos of those that begin with `test` are in neither, and the rest is
    trained on. Otherwise a random fraction validates.

    Args:
        count: number of videos.
        split_names: name of the split of a video, by row.
        val_fraction: fraction of the videos for validation where no split does.
        seed: of the random fraction.

    Raises:
        MissingError: fewer than two training videos or no validation video.
    """
    kinds = [split_names.get(i, "").lower() for i in range(count)]
    val = np.array([kind.startswith(("val", "dev")) for kind in kinds], bool)
    train = ~val & np.array([not kind.startswith("test") for kind in kinds], bool)
    names_val = bool(val.any())
    if not names_val:
        rows = np.flatnonzero(train)
        order = np.random.default_rng([seed, 1]).permutation(rows)
        val[order[: max(1, round(len(rows) * val_fraction))]] = True
        train &= ~val
    split = Split(np.flatnonzero(train), np.flatnonzero(val), names_val=names_val)
    if len(split.train) < 2 or len(split.val) < 1:
        raise MissingError(
            f"too few videos: {len(split.train)} for training and {len(split.val)} for validation; "
            "captions of at least 3 videos are needed, and of hundreds for a useful model"
        )
    return split


def hold_out_concepts(split: Split, corpus: Corpus, fraction: float, seed: int) -> Split:
    """Return `split` with about `fraction` of the training captions' concepts held out.

    A concept is a timed caption (all captions of the same words) or all untimed captions of a
    video. Random concepts are held out together with their nearest neighbours in the space of the
    frozen encoder; validation videos keep their captions. A video without captions left to train on
    leaves the training. With fewer than 50 concepts the split is returned as it is.

    Args:
        split: of the videos.
        corpus: videos and captions.
        fraction: from 0 to below 1.
        seed: of the random concepts.
    """
    concepts, queries_of = _concepts(split, corpus)
    count = round(fraction * len(concepts))
    if len(concepts) < _MIN_CONCEPTS or count < 1:
        return split
    selection = _random_clusters(concepts, count, np.random.default_rng([seed, 8]))
    held_out = np.array(
        sorted(row for concept in selection for row in queries_of[concept]), np.int64
    )
    rows = set(held_out.tolist())
    remaining = {q.video for i, q in enumerate(corpus.queries) if i not in rows}
    remaining |= {q.video for q in corpus.questions}
    has_captions = np.array([int(row) in remaining for row in split.train], bool)
    if has_captions.sum() < 2:
        return split
    return replace(
        split,
        train=split.train[has_captions],
        held_out_queries=held_out,
        held_out_videos=split.train[~has_captions],
    )


def _concepts(split: Split, corpus: Corpus) -> tuple[np.ndarray, list[list[int]]]:
    """Return `(N, D)` centered unit vectors of the concepts, and the rows of queries of each.

    Videos that are not in `split.train` have none.
    """
    videos = set(split.train.tolist())
    groups: dict[tuple[str, ...] | int, list[int]] = {}
    for row, query in enumerate(corpus.queries):
        if query.is_caption and query.video in videos:
            groups.setdefault(query.chunks if query.is_timed else query.video, []).append(row)
    if not groups:
        return np.zeros((0, corpus.dim)), []
    queries_of = list(groups.values())
    vectors = np.stack(
        [
            _unit(np.stack([corpus.text_vector(corpus.queries[i]) for i in rows])).mean(0)
            for rows in queries_of
        ]
    )
    return _unit(vectors - vectors.mean(0)), queries_of


def _random_clusters(concepts: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Return `count` rows of `concepts`: random ones, each with its nearest neighbours."""
    order = rng.permutation(len(concepts))
    is_free = np.ones(len(concepts), bool)
    selection: list[int] = []
    size = max(1, round(count / _NUM_CLUSTERS))
    for first in order:
        if len(selection) >= count:
            break
        if not is_free[first]:
            continue
        similarity = np.where(is_free, concepts @ concepts[first], -np.inf)
        nearest = np.argsort(-similarity, kind="stable")[: min(size, count - len(selection))]
        is_free[nearest] = False
        selection += nearest.tolist()
    return selection


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return unit
