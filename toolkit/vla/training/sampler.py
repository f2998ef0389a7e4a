"""What a step sees of its videos: some captions and questions of each, drawn anew every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla.batches.arrays import CorpusArrays, Ragged, starts_of
from vla.batches.batch import AlignmentBatch
from vla.batches.collate import pad_ragged
from vla.batches.corpus import Corpus
from vla.training.config import TrainConfig


@dataclass(frozen=True)
class BatchPlan:
    """What one step is about, not yet read.

    Attributes:
        table: the corpus, which the other places are of.
        rows: `(B,)` videos, each once.
        queries: `(Q,)` captions of theirs.
        questions: `(K,)` about them.
    """

    table: CorpusArrays
    rows: np.ndarray
    queries: np.ndarray
    questions: np.ndarray

    @property
    def frames(self) -> int:
        """How many frames the videos have."""
        return int(self._lengths.sum())

    @property
    def texts(self) -> int:
        """How many captions and questions there are."""
        return len(self.queries) + len(self.questions)

    def batch(self) -> AlignmentBatch:
        """All of it."""
        return pad_ragged(self.table, self.rows, self.queries, self.questions)

    def pieces(self, frames: int) -> Iterator[AlignmentBatch]:
        """Its videos in their order, each with what is told and asked of it, at most so many frames at once or one video."""
        ends, first = self._lengths.cumsum(), 0
        while first < len(self.rows):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + frames, side="right")))
            rows = self.rows[first:last]
            mine = [
                some[np.isin(video[some], rows)]
                for some, video in (
                    (self.queries, self.table.query_video), (self.questions, self.table.question_video)
                )
            ]  # fmt: skip
            yield pad_ragged(self.table, rows, *mine)
            first = last

    @property
    def _lengths(self) -> np.ndarray:
        lengths: np.ndarray = self.table.videos[self.rows + 1] - self.table.videos[self.rows]
        return lengths


class BatchSampler:
    """The batches of a run: a function of the videos and the step's number alone."""

    def __init__(self, corpus: Corpus, config: TrainConfig) -> None:
        self._table, self._config = CorpusArrays(corpus), config
        table, count = self._table, len(corpus.videos)
        everything = np.arange(len(table.query_video))
        self._plain, self._timed = (
            _by_video(everything[kind], table.query_video[kind], count) for kind in (~table.is_timed, table.is_timed)
        )
        self._asked = _by_video(np.arange(len(table.question_video)), table.question_video, count)

    def __call__(self, rows: np.ndarray, step: int) -> AlignmentBatch:
        """What step `step` sees of the videos `rows`, as a batch."""
        return self.drawn(rows, step).batch()

    def drawn(self, rows: np.ndarray, step: int) -> BatchPlan:
        """The videos `rows`, with up to `captions_per_video` untimed and as many timed captions of each, and its questions."""
        rng = np.random.default_rng([self._config.seed, 3, step])
        captions, questions = self._config.captions_per_video, self._config.questions_per_video
        # Untimed first or timed first makes no difference to any loss; a fixed order makes the bits repeatable.
        queries = np.concatenate([_some(of_video, rows, captions, rng) for of_video in (self._plain, self._timed)])
        return BatchPlan(self._table, rows, queries, _some(self._asked, rows, questions, rng))


def _by_video(items: np.ndarray, video: np.ndarray, count: int) -> Ragged:
    """The items of each of `count` videos, of which `video` says whose each is."""
    return Ragged(items[np.argsort(video, kind="stable")], starts_of(np.bincount(video, minlength=count)))


def _some(of_video: Ragged, rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many items of each of the videos `rows`, by lot, in their own order."""
    index, owner, position = of_video.places(rows)
    lots = np.lexsort((rng.random(len(index)), owner))
    return of_video.values[index[np.sort(lots[position < most])]]
