"""What a step sees of its videos: some captions and questions of each, drawn anew every time."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from vla.batch import AlignmentBatch, collate
from vla.corpus import Asked, Corpus, Query
from vla.train.config import TrainConfig

_Item = TypeVar("_Item")
Told = dict[int, tuple[list[Query], list[Query], list[Asked]]]


def by_video(corpus: Corpus) -> Told:
    """Untimed captions, timed captions and questions of each video."""
    found: Told = {i: ([], [], []) for i in range(len(corpus.videos))}
    for query in corpus.queries:
        (found[query.video][1] if query.is_timed else found[query.video][0]).append(query)
    for question in corpus.questions:
        found[question.video][2].append(question)
    return found


def draw(corpus: Corpus, told: Told, rows: np.ndarray, config: TrainConfig, step: int) -> AlignmentBatch:
    """The videos `rows`, with up to `captions_per_video` untimed and as many timed captions of each, and its questions."""
    rng = np.random.default_rng([config.seed, 3, step])
    queries: list[Query] = []
    questions: list[Asked] = []
    for row in rows:
        plain, timed, asked = told[int(row)]
        for some in (plain, timed):
            # Untimed first or timed first makes no difference to any loss; a fixed order makes the bits repeatable.
            queries += _some(some, config.captions_per_video, rng)
        questions += _some(asked, config.questions_per_video, rng)
    return collate(corpus, rows, queries, questions)


def _some(items: list[_Item], most: int, rng: np.random.Generator) -> list[_Item]:
    return [items[i] for i in sorted(rng.permutation(len(items))[:most])]
